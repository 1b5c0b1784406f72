//! The keys on disk: what outlives a restart, and what is not believed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use credlet_tests::fake_kube::signer::{Algorithm, SigningKey};
use credlet_tests::fake_kube::{FakeKube, Fault, Verb};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{AUDIENCE, BRIEFLY, HOUR, Rig, is_unavailable, later, pod, says_the_pod, until};

const NAME: &str = "token-keys.json";

/// A state directory that an agent has left, and its cluster, which is down.
async fn left() -> (FakeKube, TempDir) {
    let kube = FakeKube::start().await;
    let folder = TempDir::new().unwrap();
    let rig = Rig::with(kube, Some(folder.path()), SystemTime::now()).await;
    let path = folder.path().join(NAME);
    until("the keys are saved", || path.exists()).await;
    rig.kube.down().await;
    (rig.kube, folder)
}

fn change(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join(NAME);
    let mut keys = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut keys);
    fs::write(path, keys.to_string()).unwrap();
}

#[tokio::test]
async fn a_restarted_agent_verifies_with_the_saved_keys_while_the_api_server_is_down() {
    let (kube, folder) = left().await;
    let rig = Rig::with(kube, Some(folder.path()), SystemTime::now() + HOUR).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 2 * HOUR);
    says_the_pod(&rig.verify(&token).await.unwrap());
    let age = rig.tokens.keys_age().unwrap();
    assert!(age >= HOUR && age < 2 * HOUR, "{age:?}");
    // Until it is up, and says what is true now.
    rig.kube.rotate_keys();
    rig.kube.retire_keys();
    rig.kube.up().await;
    let token = rig.kube.token(&pod(), AUDIENCE, 3 * HOUR);
    says_the_pod(&rig.verify(&token).await.unwrap());
}

#[tokio::test]
async fn only_public_keys_are_saved_and_only_this_user_may_write_them() {
    let (kube, folder) = left().await;
    let path = folder.path().join(NAME);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let saved: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(saved["keys"], json!([kube.signing_key().jwk()]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn keys_are_saved_again_only_when_they_change_or_are_old() {
    let kube = FakeKube::start().await;
    let folder = TempDir::new().unwrap();
    let rig = Rig::with(kube, Some(folder.path()), SystemTime::now()).await;
    let path = folder.path().join(NAME);
    until("the keys are saved", || path.exists()).await;
    let inode = || fs::metadata(&path).unwrap().ino();
    let first = inode();
    let unknown = SigningKey::generate(Algorithm::Es256);
    let claims = credlet_tests::fake_kube::claims(&pod(), &[AUDIENCE], HOUR);
    for _ in 0..3 {
        later(Duration::from_secs(10)).await;
        let token = unknown.sign(&unknown.header(), &claims);
        assert!(rig.verify(&token).await.is_err());
        assert_eq!(inode(), first);
    }
    rig.kube.rotate_keys();
    later(Duration::from_secs(10)).await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
    until("the new key is saved", || inode() != first).await;
    let second = inode();
    // The file is there before the keeper's next timer is.
    let redated = async {
        while inode() == second {
            later(HOUR).await;
            sleep(BRIEFLY).await;
        }
    };
    assert!(timeout(20 * HOUR, redated).await.is_ok());
}

#[tokio::test]
async fn a_file_that_cannot_be_trusted_is_not_used() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 9] = [
        ("written by the group", |folder| {
            fs::set_permissions(folder.join(NAME), Permissions::from_mode(0o660)).unwrap();
        }),
        ("written by others", |folder| {
            fs::set_permissions(folder.join(NAME), Permissions::from_mode(0o602)).unwrap();
        }),
        ("a link", |folder| {
            fs::rename(folder.join(NAME), folder.join("elsewhere")).unwrap();
            symlink("elsewhere", folder.join(NAME)).unwrap();
        }),
        ("a folder", |folder| {
            fs::remove_file(folder.join(NAME)).unwrap();
            fs::create_dir(folder.join(NAME)).unwrap();
        }),
        ("half", |folder| {
            let text = fs::read(folder.join(NAME)).unwrap();
            fs::write(folder.join(NAME), &text[..text.len() / 2]).unwrap();
        }),
        ("large", |folder| {
            change(folder, |keys| keys["more"] = "x".repeat(600 * 1024).into());
        }),
        ("without keys", |folder| {
            change(folder, |keys| keys["keys"] = json!([]));
        }),
        ("symmetric", |folder| {
            change(folder, |keys| {
                keys["keys"][0] = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "1"});
            });
        }),
        ("of the future", |folder| {
            change(folder, |keys| keys["fetched_at"] = u32::MAX.into());
        }),
    ];
    let (mut kube, _) = left().await;
    for (what, spoil) in spoil {
        kube.up().await;
        let folder = TempDir::new().unwrap();
        let rig = Rig::with(kube, Some(folder.path()), SystemTime::now()).await;
        let path = folder.path().join(NAME);
        until("the keys are saved", || path.exists()).await;
        rig.kube.down().await;
        kube = rig.kube;
        spoil(folder.path());
        let rig = Rig::with(kube, Some(folder.path()), SystemTime::now()).await;
        let result = rig.verify_within(&rig.token(), BRIEFLY).await;
        assert!(is_unavailable(&result), "{what}");
        kube = rig.kube;
    }
}

#[tokio::test]
async fn saved_keys_of_yesterday_are_not_used() {
    let (kube, folder) = left().await;
    let tomorrow = SystemTime::now() + 25 * HOUR;
    let rig = Rig::with(kube, Some(folder.path()), tomorrow).await;
    let token = rig.kube.token(&pod(), AUDIENCE, 48 * HOUR);
    assert!(is_unavailable(&rig.verify_within(&token, BRIEFLY).await));
    rig.kube.up().await;
    says_the_pod(&rig.verify(&token).await.unwrap());
}

#[tokio::test]
async fn a_state_directory_that_is_not_there_costs_only_the_saved_keys() {
    let kube = FakeKube::start().await;
    let folder = TempDir::new().unwrap();
    let rig = Rig::with(kube, Some(&folder.path().join("none")), SystemTime::now()).await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
}

#[tokio::test]
async fn saved_keys_are_used_while_the_first_fetch_hangs() {
    let (kube, folder) = left().await;
    kube.up().await;
    kube.fail_next(Verb::Discovery, Fault::Stall);
    let rig = Rig::with(kube, Some(folder.path()), SystemTime::now()).await;
    says_the_pod(&rig.verify(&rig.token()).await.unwrap());
}
