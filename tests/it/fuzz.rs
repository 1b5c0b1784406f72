//! The fuzz targets on their corpus: what was found once stays found.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "a library where it is at home")]
#[path = "../../agent/fuzz/src/lib.rs"]
mod targets;

fn replay(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/fuzz/corpus");
    let files = fs::read_dir(corpus.join(name)).expect("a corpus");
    let mut inputs = 0;
    for file in files {
        let path = file.expect("a readable entry").path();
        println!("{}", path.display());
        target(&fs::read(&path).expect("a readable file"));
        inputs += 1;
    }
    assert!(inputs > 2, "the corpus of {name} is not where it was");
}

#[test]
fn no_event_of_the_corpus_makes_an_address_another_pod_s() {
    replay("pod_events", targets::pod_events);
}

#[test]
fn no_file_of_the_corpus_is_read_as_what_it_is_not() {
    replay("associations", targets::associations);
}

#[test]
fn no_token_of_the_corpus_is_taken_for_more_than_it_claims() {
    replay("token", targets::token);
}
