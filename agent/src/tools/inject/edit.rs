//! Additions written into the text of YAML documents, so that its comments and its
//! order stay.
//!
//! Only what is written in blocks is edited, and only by whole lines. Whoever
//! calls compares what the edited text says with what it should say.

use granit_parser::{Event, Parser, Span, StrInput, StructureStyle};
use serde_json::json;

use crate::inject::Add;

/// A text, and what is left of it to be parsed.
struct Text<'a> {
    lines: Vec<&'a str>,
    parser: Parser<'a, StrInput<'a>>,
}

/// A node of a document, and the last line with something of it, from 1; 0 if there
/// is none.
struct Node {
    kind: Kind,
    end: usize,
}

enum Kind {
    /// A scalar, an alias, or a collection in brackets.
    Leaf,
    /// A block of items whose dashes are in this column.
    Sequence(usize, Vec<Node>),
    /// A block of entries whose keys are in this column.
    Mapping(usize, Vec<(String, Node)>),
}

/// The text with the additions in its document of that number, from 0. `None` if
/// it is written in a way that is not edited.
pub(super) fn edit(text: &str, document: usize, adds: &[Add]) -> Option<String> {
    let mut text = text.to_owned();
    for add in adds {
        text = insert(&text, document, add)?;
    }
    Some(text)
}

fn insert(text: &str, document: usize, Add { path, value }: &Add) -> Option<String> {
    let mut documents = documents(text)?;
    let root = (document < documents.len()).then(|| documents.swap_remove(document))?;
    let (parent, last) = path.rsplit_once('/')?;
    let parent = find(&root, parent)?;
    let (column, block) = match &parent.kind {
        Kind::Leaf => return None,
        Kind::Sequence(column, _) => (*column, json!([value])),
        Kind::Mapping(column, _) => (*column, json!({unescaped(last): value})),
    };
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    let block = serde_saphyr::to_string_with_options(&block, options).ok()?;
    let mut edited = String::with_capacity(text.len() + 2 * block.len());
    let mut lines = text.split_inclusive('\n');
    edited.extend(lines.by_ref().take(parent.end));
    if !edited.ends_with('\n') {
        edited.push('\n');
    }
    for line in block.lines().filter(|line| !line.is_empty()) {
        edited.extend(std::iter::repeat_n(' ', column));
        edited.push_str(line);
        edited.push('\n');
    }
    edited.extend(lines);
    Some(edited)
}

fn find<'a>(root: &'a Node, pointer: &str) -> Option<&'a Node> {
    let mut names = pointer.split('/').skip(1);
    names.try_fold(root, |node, name| match &node.kind {
        Kind::Leaf => None,
        Kind::Sequence(_, items) => items.get(name.parse::<usize>().ok()?),
        Kind::Mapping(_, entries) => {
            let name = unescaped(name);
            let entry = entries.iter().find(|(key, _)| *key == name);
            entry.map(|(_, node)| node)
        }
    })
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// The documents with something in them.
fn documents(text: &str) -> Option<Vec<Node>> {
    let mut text = Text {
        lines: text.lines().collect(),
        parser: Parser::new_from_str(text),
    };
    let mut documents = Vec::new();
    loop {
        let (event, span) = text.next()?;
        match event {
            Event::StreamEnd => return Some(documents),
            Event::Scalar(..)
            | Event::Alias(_)
            | Event::SequenceStart(..)
            | Event::MappingStart(..) => {
                let node = text.node(&event, span)?;
                documents.extend(Some(node).filter(|node| node.end > 0));
            }
            _ => {}
        }
    }
}

impl<'a> Text<'a> {
    /// The next event that says something of a node, or that there is none.
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        loop {
            let (event, span) = self.parser.next_event()?.ok()?;
            match event {
                Event::StreamEnd
                | Event::Scalar(..)
                | Event::Alias(_)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => return Some((event, span)),
                // Comments among them.
                _ => {}
            }
        }
    }

    fn node(&mut self, event: &Event<'a>, span: Span) -> Option<Node> {
        match event {
            Event::Scalar(..) | Event::Alias(_) => Some(Node {
                kind: Kind::Leaf,
                end: self.end(span),
            }),
            Event::SequenceStart(style, ..) => {
                let mut items = Vec::new();
                let after = loop {
                    let (event, span) = self.next()?;
                    match event {
                        Event::SequenceEnd => break span,
                        _ => items.push(self.node(&event, span)?),
                    }
                };
                let ends = items.iter().map(|item| item.end);
                let (kind, end) = match style {
                    StructureStyle::Flow => (Kind::Leaf, after.end.line()),
                    StructureStyle::Block => {
                        let end = ends.max().unwrap_or_default();
                        (Kind::Sequence(self.dash(span)?, items), end)
                    }
                };
                Some(Node { kind, end })
            }
            Event::MappingStart(style, ..) => {
                let mut entries = Vec::new();
                let mut column = None;
                let mut last = 0;
                let after = loop {
                    let (event, at) = self.next()?;
                    let key = match event {
                        Event::MappingEnd => break at,
                        Event::Scalar(ref key, ..) => key.to_string(),
                        // No key of Kubernetes' is anything else.
                        _ => return None,
                    };
                    column = column.or(Some(at.start.col()));
                    let (event, span) = self.next()?;
                    let value = self.node(&event, span)?;
                    last = last.max(at.end.line()).max(value.end);
                    entries.push((key, value));
                };
                let (kind, end) = match style {
                    StructureStyle::Flow => (Kind::Leaf, after.end.line()),
                    StructureStyle::Block => (Kind::Mapping(column?, entries), last),
                };
                Some(Node { kind, end })
            }
            _ => None,
        }
    }

    /// The last line of a scalar. A block of text ends where something else begins.
    fn end(&self, span: Span) -> usize {
        if span.start == span.end {
            return 0;
        }
        let line = span.end.line();
        let before = self.before(line, span.end.col());
        if before.is_some_and(|before| before.trim().is_empty()) {
            return line - 1;
        }
        line
    }

    /// The column of a sequence's dashes. It begins with the first, or with what
    /// follows that where the dashes are no further in than the key.
    fn dash(&self, span: Span) -> Option<usize> {
        let (line, column) = (span.start.line(), span.start.col());
        if self.before(line, column + 1)?.ends_with('-') {
            return Some(column);
        }
        let before = self.before(line, column)?.trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }

    /// What is left of a column; `None` also where columns are not bytes.
    fn before(&self, line: usize, column: usize) -> Option<&'a str> {
        self.lines.get(line - 1)?.get(..column)
    }
}
