//! The cluster key's promises: files, macs and seals.

use super::*;

fn key(byte: u8) -> ClusterKey {
    ClusterKey::from_bytes([byte; 32])
}

#[test]
fn a_mac_verifies_only_for_the_same_key_purpose_and_parts() {
    let mac = key(1).mac("credential", &[b"alice", b"secret"]);
    assert!(key(1).verify("credential", &[b"alice", b"secret"], &mac));
    assert!(!key(2).verify("credential", &[b"alice", b"secret"], &mac));
    assert!(!key(1).verify("token", &[b"alice", b"secret"], &mac));
    assert!(!key(1).verify("credential", &[b"alices", b"ecret"], &mac));
    assert!(!key(1).verify("credential", &[b"alice", b"secret"], &mac[..31]));
}

#[test]
fn a_mac_never_changes_between_releases() {
    let mac = key(7).mac("credential", &[b"alice", b"secret"]);
    assert_eq!(mac[..8], [176, 180, 60, 56, 46, 161, 210, 157]);
}

#[test]
fn what_was_sealed_opens_again_and_for_nothing_else() {
    let sealed = key(1).seal("dkim example.com", b"private").unwrap();
    assert_eq!(key(1).open("dkim example.com", &sealed).unwrap(), b"private");
    assert_eq!(key(1).open("dkim example.org", &sealed), Err(SealError));
    assert_eq!(key(2).open("dkim example.com", &sealed), Err(SealError));
    assert!(!sealed.windows(7).any(|window| window == b"private"));
}

#[test]
fn a_changed_or_cut_seal_does_not_open() {
    let sealed = key(1).seal("x", b"private").unwrap();
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert_eq!(key(1).open("x", &changed), Err(SealError), "byte {index}");
        assert_eq!(key(1).open("x", &sealed[..index]), Err(SealError), "cut at {index}");
    }
}

#[test]
fn the_key_is_never_printed() {
    assert_eq!(format!("{:?}", key(1)), "ClusterKey(***)");
}

#[test]
fn a_key_is_made_once_with_mode_0600_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    let first = ClusterKey::load_or_create(&path).unwrap();
    let second = ClusterKey::load_or_create(&path).unwrap();
    assert_eq!(first.mac("x", &[]), second.mac("x", &[]));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    ClusterKey::load_or_create(&path).unwrap();
    for mode in [0o644, 0o660, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = ClusterKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    for content in [&b""[..], b"short", &[b'x'; 64], &[b'a'; 66], &[0; 33]] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = ClusterKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("expected 32 bytes"), "{error}");
    }
}

#[test]
fn a_key_may_be_raw_bytes_or_digits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.key");
    for content in [vec![0xab; 32], b"ab".repeat(32), [b"AB".repeat(32), b"\n".to_vec()].concat()] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(ClusterKey::load(&path).unwrap().mac("x", &[]), key(0xab).mac("x", &[]));
    }
}

#[test]
fn an_absent_key_is_an_error_that_names_the_file() {
    let error = ClusterKey::load(Path::new("/nonexistent/secret.key")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/secret.key"), "{error}");
}
