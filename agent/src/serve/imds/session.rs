//! Session tokens: which pod asked for one, until when, and that it was asked here.
//!
//! Nothing is kept of them: a token is its own end and a code over that and its
//! pod, which only the holder of the key can make.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use hyper::header::{GetAll, HeaderValue};

use crate::model::PodUid;

/// The longest life of a token, in seconds: six hours, and the shortest.
const LIVES: std::ops::RangeInclusive<u32> = 1..=21_600;

/// Hexadecimal digits of a token's end, in milliseconds after 1970.
const END: usize = 12;
/// Those of the code.
const CODE: usize = 64;

/// How long a token is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(u32);

impl Life {
    /// What the header says, if it is there once and says what it may.
    pub(super) fn of(values: &GetAll<HeaderValue>) -> Option<Self> {
        let mut values = values.iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = value.to_str().ok()?;
        // `parse` takes a sign.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds = text.parse().ok()?;
        LIVES.contains(&seconds).then_some(Self(seconds))
    }

    pub(super) fn seconds(self) -> u32 {
        self.0
    }
}

/// What makes tokens, and knows them again.
pub(super) struct SessionKey(hmac::Key);

type Token = [u8; END + CODE];

impl SessionKey {
    pub(super) fn generate() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the system gives random bytes"))
    }

    /// A token for the pod.
    pub(super) fn token(&self, life: Life, pod: &PodUid, now: SystemTime) -> String {
        let end = millis(now + Duration::from_secs(life.0.into()));
        let token = self.sign(end, pod);
        str::from_utf8(&token).expect("digits").to_owned()
    }

    /// The session that the token is of, if it is one of the pod's that has not
    /// ended.
    pub(super) fn open(&self, token: &[u8], pod: &PodUid, now: SystemTime) -> Option<Session> {
        let end = token.get(..END).and_then(number)?;
        // Compared as text: what is written otherwise is another token.
        let session = Session {
            token: self.sign(end, pod),
            pod: pod.clone(),
            end,
        };
        session.opens_by(token, pod, now).then_some(session)
    }

    fn sign(&self, end: u64, pod: &PodUid) -> Token {
        let mut code = hmac::Context::with_key(&self.0);
        code.update(&end.to_be_bytes());
        code.update(pod.as_str().as_bytes());
        let code = code.sign();
        let mut token = [0; END + CODE];
        let (head, tail) = token.split_at_mut(END);
        write(head, &end.to_be_bytes()[8 - END / 2..]);
        write(tail, code.as_ref());
        token
    }
}

/// A token that is good, until it ends.
pub(in crate::serve) struct Session {
    token: Token,
    pod: PodUid,
    /// In milliseconds after 1970.
    end: u64,
}

impl Session {
    /// Whether it is this token's and this pod's, and has not ended.
    pub(super) fn opens_by(&self, token: &[u8], pod: &PodUid, now: SystemTime) -> bool {
        verify_slices_are_equal(token, &self.token).is_ok()
            && *pod == self.pod
            && millis(now) < self.end
    }
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn write(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::super::LIFE;
    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn pod(uid: &str) -> PodUid {
        PodUid::new(uid).unwrap()
    }

    fn life(values: &[&str]) -> Option<u32> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LIFE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Life::of(&headers.get_all(LIFE)).map(Life::seconds)
    }

    #[test]
    fn a_life_is_a_number_of_seconds_up_to_six_hours() {
        for (text, seconds) in [("1", 1), ("60", 60), ("021600", 21_600), ("21600", 21_600)] {
            assert_eq!(life(&[text]), Some(seconds));
        }
        for text in [
            "",
            "0",
            "21601",
            "-1",
            "+60",
            "60 ",
            "6e1",
            "60.0",
            "0x3c",
            "60s",
            "6 0",
            "60,60",
            "4294967297",
            "18446744073709551617",
            "٦٠",
        ] {
            assert_eq!(life(&[text]), None, "{text}");
        }
        assert_eq!(life(&[]), None);
        assert_eq!(life(&["60", "60"]), None);
    }

    #[test]
    fn a_token_is_its_pods_until_its_end() {
        let (key, web) = (SessionKey::generate(), pod("web"));
        let token = key.token(Life(60), &web, NOW);
        let opens = |pod: &PodUid, after| key.open(token.as_bytes(), pod, NOW + after).is_some();
        assert!(opens(&web, Duration::ZERO));
        assert!(opens(&web, Duration::from_millis(59_999)));
        assert!(!opens(&web, Duration::from_mins(1)));
        assert!(!opens(&web, Duration::from_hours(6)));
        assert!(!opens(&pod("api"), Duration::ZERO));
        assert!(!opens(&pod("we"), Duration::ZERO));
    }

    #[test]
    fn a_session_that_is_remembered_is_still_its_tokens_its_pods_and_ends() {
        let (key, web) = (SessionKey::generate(), pod("web"));
        let token = key.token(Life(60), &web, NOW);
        let session = key.open(token.as_bytes(), &web, NOW).expect("a good token");
        let minute = Duration::from_mins(1);
        assert!(session.opens_by(token.as_bytes(), &web, NOW));
        assert!(!session.opens_by(token.as_bytes(), &web, NOW + minute));
        assert!(!session.opens_by(token.as_bytes(), &pod("api"), NOW));
        let longer = key.token(Life(61), &web, NOW);
        assert!(!session.opens_by(longer.as_bytes(), &web, NOW));
    }

    #[test]
    fn a_token_of_another_key_is_none() {
        let (key, web) = (SessionKey::generate(), pod("web"));
        let token = SessionKey::generate().token(Life(60), &web, NOW);
        assert!(key.open(token.as_bytes(), &web, NOW).is_none());
    }

    #[test]
    fn no_other_text_is_the_token() {
        let (key, web) = (SessionKey::generate(), pod("web"));
        let token = key.token(Life(60), &web, NOW).into_bytes();
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut corrupted = token.clone();
                corrupted[at] ^= 1 << bit;
                assert!(key.open(&corrupted, &web, NOW).is_none(), "{at}, {bit}");
            }
        }
        for length in 0..token.len() {
            assert!(key.open(&token[..length], &web, NOW).is_none(), "{length}");
        }
        for other in [
            [&token[..], b"0"].concat(),
            [b"0", &token[..]].concat(),
            token.to_ascii_uppercase(),
        ] {
            assert!(key.open(&other, &web, NOW).is_none());
        }
    }
}
