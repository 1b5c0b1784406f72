//! What is passed on of AWS's words.

use aws_smithy_types::error::ErrorMetadata;

use super::*;

fn words(code: &str, message: &str) -> (Fault, String) {
    let error = ErrorMetadata::builder().code(code).message(message).build();
    let (fault, message) = of_answer(403, &error);
    (fault, harmless(&message))
}

#[test]
fn the_reason_of_a_refusal_is_passed_on() {
    let (fault, message) = words("AccessDenied", "not authorized to perform: sts:TagSession");
    assert_eq!(fault, Fault::Denied);
    assert_eq!(
        message,
        "AccessDenied: not authorized to perform: sts:TagSession"
    );
}

#[test]
fn a_quoted_request_is_not_passed_on() {
    let quote = "The Canonical String should have been 'x-amz-security-token:FwoGZXIvY'";
    assert_eq!(
        words("SignatureDoesNotMatch", quote).1,
        "SignatureDoesNotMatch"
    );
    let second_line = format!("does not match\n{quote}");
    assert_eq!(words("Other", &second_line).1, "Other: does not match");
}

#[test]
fn access_key_ids_are_not_passed_on() {
    let (_, message) = words(
        "InvalidClientTokenId",
        "key ASIAIOSFODNN7EXAMPLE is unknown",
    );
    assert_eq!(message, "InvalidClientTokenId: key (access key) is unknown");
}

#[test]
fn a_message_is_cut() {
    let (_, message) = words("ValidationError", &"é".repeat(10_000));
    assert_eq!(message.chars().count(), LONGEST_MESSAGE);
}

/// STS's codes are those on the wire, from the AWS API's models.
#[test]
fn a_refusal_that_another_role_or_pod_or_declaration_would_end_is_one() {
    for (code, wanted) in [
        ("AccessDenied", Fault::Denied),
        ("AccessDeniedException", Fault::Denied),
        ("IDPRejectedClaim", Fault::Denied),
        ("InvalidIdentityToken", Fault::Denied),
        ("InvalidTokenException", Fault::Denied),
        ("InvalidParameterException", Fault::Denied),
        ("InvalidRequestException", Fault::Denied),
        ("MalformedPolicyDocument", Fault::Denied),
        ("RegionDisabledException", Fault::Denied),
        ("ValidationError", Fault::Denied),
        ("PackedPolicyTooLarge", Fault::TooLarge),
        ("NoSuchEntity", Fault::NotFound),
        ("ResourceNotFoundException", Fault::NotFound),
    ] {
        assert_eq!(words(code, "no").0, wanted, "{code}");
    }
}

#[test]
fn what_the_next_credentials_or_token_or_attempt_may_end_is_an_outage() {
    for code in [
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPCommunicationError",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ] {
        assert_eq!(words(code, "no").0, Fault::Unavailable, "{code}");
    }
    let keys = "Couldn't retrieve verification key from your identity provider";
    assert_eq!(words("InvalidIdentityToken", keys).0, Fault::Unavailable);
}

#[test]
fn a_failure_of_awss_own_is_an_outage_whatever_its_code() {
    let error = ErrorMetadata::builder().code("AccessDenied").build();
    assert_eq!(of_answer(503, &error).0, Fault::Unavailable);
}

#[test]
fn tokens_are_not_passed_on() {
    let (_, message) = words("InvalidIdentityToken", "'eyJhbGciOi.eyJpc3Mi.c2ln' is bad");
    assert_eq!(message, "InvalidIdentityToken: (token) is bad");
}

#[test]
fn throttling_is_known_by_its_code_or_its_status() {
    assert_eq!(words("Throttling", "Rate exceeded").0, Fault::Throttled);
    let bare = ErrorMetadata::builder().build();
    assert_eq!(of_answer(429, &bare).0, Fault::Throttled);
}
