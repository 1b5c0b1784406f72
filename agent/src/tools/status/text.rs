//! How an agent stands, as a person reads it in a terminal.

use std::fmt::Write;

use jiff::Timestamp;

use crate::status::{Account, Source, SourceState, State, Status};

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Coloured,
    Plain,
}

/// What a word means, as its colour.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
}

/// How wide a session's bar is.
const BAR: u16 = 10;

/// Under this much left nothing is served while AWS answers.
const SHORT: i64 = 15 * 60;

/// A cell, and what it means.
type Cell = (String, Option<Tone>);

pub(super) fn text(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    head(&mut text, status, paint);
    text.push('\n');
    let sources = status.sources.iter();
    let sources = sources.map(|it| (source(it, status.now), None)).collect();
    table(
        &mut text,
        ["SOURCE", "STATE", "KNOWN", "HEARD", ""],
        sources,
        paint,
    );
    text.push('\n');
    if status.accounts.is_empty() {
        text.push_str("no pod of this node is known\n");
        return text;
    }
    let mut accounts: Vec<&Account> = status.accounts.iter().collect();
    accounts.sort_by_key(|it| rank(it.state));
    let accounts = accounts.into_iter();
    let accounts = accounts
        .map(|it| (account(it, status.now), trouble(it, status.now)))
        .collect();
    let heads = ["ACCOUNT", "STATE", "LEFT", "REFRESHED", "PODS", "ROLE"];
    table(&mut text, heads, accounts, paint);
    text
}

fn head(text: &mut String, status: &Status, paint: Paint) {
    let Status {
        version,
        node,
        cluster,
        now,
        started_at,
        gates,
        pods,
        ..
    } = status;
    let closed = gates.iter().filter(|gate| !gate.open);
    let closed: Vec<&str> = closed.map(|gate| &*gate.name).collect();
    let ready = if closed.is_empty() {
        painted("ready", Some(Tone::Good), paint)
    } else {
        let closed = format!("not ready: {}", closed.join(", "));
        painted(&closed, Some(Tone::Bad), paint)
    };
    let cluster = cluster.as_ref();
    let cluster = cluster.map_or(String::new(), |name| format!(" in {name}"));
    let running = span(now.duration_since(*started_at).as_secs());
    writeln!(text, "{node}{cluster}: {ready}").expect("infallible");
    let known = pods
        .known
        .map_or("not known yet".to_owned(), |known| known.to_string());
    let keys = pods.keys_at.map_or(String::new(), |at| {
        format!(
            ", token keys {} old",
            span(now.duration_since(at).as_secs())
        )
    });
    writeln!(
        text,
        "credlet {version}, up {running}; pods: {known}; API server heard {}{keys}",
        ago(*now, pods.heard_at)
    )
    .expect("infallible");
}

fn source(source: &Source, now: Timestamp) -> [Cell; 5] {
    let (state, tone) = match source.state {
        SourceState::Good => ("good", Tone::Good),
        SourceState::Absent => ("absent", Tone::Dim),
        SourceState::Waiting => ("waiting", Tone::Warn),
        SourceState::Failing => ("failing", Tone::Bad),
    };
    [
        (source.name.clone(), None),
        (state.to_owned(), Some(tone)),
        (source.known.to_string(), None),
        (ago(now, source.heard_at), None),
        (source.error.clone().unwrap_or_default(), Some(Tone::Dim)),
    ]
}

fn account(account: &Account, now: Timestamp) -> [Cell; 6] {
    let pod = account.pod.as_ref();
    let pod = pod.map_or(String::new(), |pod| format!(" ({pod})"));
    let (state, tone) = state(account.state);
    let role = account.role.as_deref().unwrap_or("-").to_owned();
    let refreshed = account.refreshed_at;
    let refreshed = refreshed.map_or("-".to_owned(), |at| ago(now, Some(at)));
    [
        (
            format!("{}/{}{pod}", account.namespace, account.service_account),
            None,
        ),
        (state.to_owned(), Some(tone)),
        left(account, now),
        (refreshed, None),
        (account.users.to_string(), None),
        (role, None),
    ]
}

fn rank(state: State) -> u8 {
    match state {
        State::Failed | State::Refused | State::Stale | State::Unknown => 0,
        State::Fresh | State::Pending | State::OnRequest => 1,
        State::NoRole => 2,
    }
}

fn state(state: State) -> (&'static str, Tone) {
    match state {
        State::Fresh => ("fresh", Tone::Good),
        State::Stale => ("refresh failing", Tone::Warn),
        State::Failed => ("failing", Tone::Bad),
        State::Pending => ("fetching", Tone::Dim),
        State::OnRequest => ("on request", Tone::Dim),
        State::NoRole => ("no role", Tone::Dim),
        State::Refused => ("refused", Tone::Bad),
        State::Unknown => ("not known yet", Tone::Warn),
    }
}

/// What is left of the session, as a bar and in words.
fn left(account: &Account, now: Timestamp) -> Cell {
    let serves = matches!(account.state, State::Fresh | State::Stale);
    let (Some(from), Some(to), true) = (account.refreshed_at, account.expires_at, serves) else {
        return ("-".to_owned(), None);
    };
    let left = to.duration_since(now).as_secs().max(0);
    let whole = to.duration_since(from).as_secs().max(1);
    let full = (left * i64::from(BAR) + whole / 2) / whole;
    let part = |it: u16| if i64::from(it) < full { '█' } else { '░' };
    let bar: String = (0..BAR).map(part).collect();
    let tone = if left < SHORT { Tone::Warn } else { Tone::Good };
    (format!("{bar} {}", span(left)), Some(tone))
}

fn trouble(account: &Account, now: Timestamp) -> Option<Cell> {
    let trouble = account.trouble.as_ref()?;
    let (_, tone) = state(account.state);
    let tried = trouble.at.map_or(String::new(), |at| {
        let times = match trouble.attempts {
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        format!(" ({times}, last {})", ago(now, Some(at)))
    });
    Some((format!("{}{tried}", trouble.message), Some(tone)))
}

/// Columns as wide as what is in them, and below a row what is wrong with it.
fn table<const N: usize>(
    text: &mut String,
    heads: [&str; N],
    rows: Vec<([Cell; N], Option<Cell>)>,
    paint: Paint,
) {
    let width = |text: &str| text.chars().count();
    let mut widths = heads.map(width);
    for (cells, _) in &rows {
        for (widest, (cell, _)) in widths.iter_mut().zip(cells) {
            *widest = width(cell).max(*widest);
        }
    }
    let heads = heads.map(|head| (head.to_owned(), Some(Tone::Dim)));
    for (cells, below) in [(heads, None)].into_iter().chain(rows) {
        let mut line = String::new();
        let mut blank = 0;
        for ((cell, tone), wide) in cells.into_iter().zip(widths) {
            line.push_str(&" ".repeat(if cell.is_empty() { 0 } else { blank }));
            line.push_str(&painted(&cell, tone, paint));
            blank = wide - width(&cell) + 2;
        }
        text.push_str(&line);
        text.push('\n');
        if let Some((below, tone)) = below {
            writeln!(text, "    {}", painted(&below, tone, paint)).expect("infallible");
        }
    }
}

fn painted(text: &str, tone: Option<Tone>, paint: Paint) -> String {
    let text = printable(text);
    let colour = match (tone, paint) {
        (None, _) | (_, Paint::Plain) => return text,
        (Some(Tone::Good), Paint::Coloured) => "32",
        (Some(Tone::Warn), Paint::Coloured) => "33",
        (Some(Tone::Bad), Paint::Coloured) => "31",
        (Some(Tone::Dim), Paint::Coloured) => "2",
    };
    if text.is_empty() {
        return text;
    }
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// What servers say may be written for a terminal to obey.
fn printable(text: &str) -> String {
    let kept = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(kept).collect()
}

fn ago(now: Timestamp, at: Option<Timestamp>) -> String {
    let age = at.map(|at| span(now.duration_since(at).as_secs()));
    age.map_or("never".to_owned(), |age| format!("{age} ago"))
}

/// Two units at most.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |more: i64, unit: &str, less: i64, lesser: &str| match less {
        0 => format!("{more}{unit}"),
        less => format!("{more}{unit}{less}{lesser}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..172_800 => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}
