//! What pods read, and which pods.

use credlet_tests::client;

use super::*;

#[tokio::test]
async fn a_pod_reads_its_roles_name_and_then_its_credentials() {
    apart(async || {
        let front = front().await;
        for (pod, account) in [(WEB, "web"), (API, "api")] {
            for path in [ROLE, ROLE.trim_end_matches('/')] {
                let answer = get(pod, &front, path, &[]).await;
                assert_eq!((answer.status, &*answer.body), (200, account), "{path}");
                assert_eq!(answer.header("content-type"), Some("text/plain"));
                assert_eq!(answer.header("server"), Some("EC2ws"));
            }
            let answer = get(pod, &front, &format!("{ROLE}{account}"), &[]).await;
            assert_eq!(answer.status, 200);
            let told = answer.json();
            assert_eq!(
                (&told["Code"], &told["Type"]),
                (&"Success".into(), &"AWS-HMAC".into())
            );
            let token = told["Token"].as_str().expect("a text");
            assert!(token.starts_with(&format!("shop/{account}:")), "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn both_doors_give_the_same_credentials_of_one_session() {
    apart(async || {
        let front = front().await;
        let here = get(WEB, &front, CREDENTIALS, &[]).await.json();
        let there = client::get(WEB.into(), front.address, "/v1/credentials").await;
        for field in ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
            assert_eq!(here[field], there.json()[field], "{field}");
        }
        let again = get(WEB, &front, CREDENTIALS, &[]).await.json();
        assert_eq!(here, again);
        assert_eq!(front.upstream.calls(), 1);
    })
    .await;
}

#[tokio::test]
async fn every_version_of_the_api_gives_the_same() {
    apart(async || {
        let front = front().await;
        let latest = get(WEB, &front, CREDENTIALS, &[]).await;
        for version in [
            "1.0",
            "2007-01-19",
            "2014-11-05",
            "2021-07-15",
            "2024-04-11",
        ] {
            let path = CREDENTIALS.replace("latest", version);
            let answer = get(WEB, &front, &path, &[]).await;
            assert_eq!(
                (answer.status, answer.body),
                (200, latest.body.clone()),
                "{version}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_credentials_are_of_is_told_as_an_instance_profile() {
    apart(async || {
        let front = front().await;
        let answer = get(WEB, &front, "/latest/meta-data/iam/info", &[]).await;
        assert_eq!(answer.status, 200);
        let told = answer.json();
        assert_eq!(told["Code"], "Success");
        assert_eq!(
            told["InstanceProfileArn"],
            "arn:aws:iam::123456789012:instance-profile/web"
        );
        assert_eq!(told["InstanceProfileId"], "AROAEXAMPLE");
        let updated = told["LastUpdated"].as_str().expect("a text");
        assert_eq!((updated.len(), &updated[10..11]), (20, "T"), "{updated}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_has_not_asked_for_metadata_is_refused_at_once() {
    apart(async || {
        let front = front().await;
        for path in [ROLE, CREDENTIALS, "/latest/meta-data/iam/info"] {
            let answer = get(PLAIN, &front, path, &[]).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(answer.body.starts_with("NotOptedIn: "), "{}", answer.body);
        }
        assert_eq!(session(PLAIN, &front, "60").await.status, 403);
        // The other door is for all.
        let answer = client::get(PLAIN.into(), front.address, "/v1/credentials").await;
        assert_eq!(answer.status, 200);
    })
    .await;
}

#[tokio::test]
async fn where_metadata_is_for_all_pods_none_has_to_ask() {
    apart(async || {
        let front = with(Imds {
            pods: ImdsPods::All,
            ..Imds::default()
        })
        .await;
        for pod in [PLAIN, WEB] {
            let answer = get(pod, &front, ROLE, &[]).await;
            assert_eq!((answer.status, &*answer.body), (200, "web"));
        }
    })
    .await;
}

#[tokio::test]
async fn who_has_no_role_and_who_is_no_pod_are_told_apart() {
    apart(async || {
        let front = front().await;
        for path in [ROLE, CREDENTIALS, "/latest/meta-data/iam/info"] {
            let answer = get(WITHOUT_ROLE, &front, path, &[]).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(
                answer.body.starts_with("NoAssociation: "),
                "{}",
                answer.body
            );
        }
        let answer = get(NOBODY, &front, ROLE, &[]).await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.body.starts_with("UnknownAddress: "),
            "{}",
            answer.body
        );
    })
    .await;
}

#[tokio::test]
async fn a_door_to_both_tells_them_apart_by_the_path() {
    apart(async || {
        let front = front().await;
        let both = front.both.expect("a door");
        let answer = ask(WEB, both, &format!("GET {ROLE}"), &[]).await;
        assert_eq!((answer.status, &*answer.body), (200, "web"));
        assert_eq!(
            ask(WEB, both, &format!("PUT {SESSION}"), &[(LIFE, "1")])
                .await
                .status,
            200
        );
        let answer = ask(WEB, both, "GET /v1/credentials", &[]).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["AccountId"], "123456789012");
        // For those who have not asked for metadata, the one is there all the same.
        assert_eq!(
            ask(PLAIN, both, "GET /v1/credentials", &[]).await.status,
            200
        );
        assert_eq!(
            ask(PLAIN, both, &format!("GET {ROLE}"), &[]).await.status,
            403
        );
        for line in ["POST /v1/credentials", "PUT /v1/credentials"] {
            assert_eq!(ask(WEB, both, line, &[]).await.status, 405);
        }
        for line in ["GET /v1/credentials/", "GET /v1", "GET /"] {
            assert_eq!(ask(WEB, both, line, &[]).await.status, 404);
        }
    })
    .await;
}

#[tokio::test]
async fn neither_door_answers_for_the_other() {
    apart(async || {
        let front = front().await;
        assert_eq!(get(WEB, &front, "/v1/credentials", &[]).await.status, 404);
        for path in [ROLE, CREDENTIALS, "/latest/meta-data/iam/info"] {
            let answer = client::get(WEB.into(), front.address, path).await;
            assert_eq!(answer.status, 404, "{path}");
        }
    })
    .await;
}
