//! The envelope of stored values, byte for byte: values written by older versions stay readable.

use serde::{Deserialize, Serialize};
use terrace_core::codec::{Codec, Compression, Settings, open, seal};
use terrace_core::key::{encode_key, key_digest};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    roles: Vec<Role>,
    manager: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Role {
    Reader,
    Editor { section: String },
}

fn user(name: &str) -> User {
    let roles = vec![Role::Reader, Role::Editor { section: "news".into() }];
    User { id: 300, name: name.into(), roles, manager: None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn envelopes_are_as_the_golden_file_has_them() {
    let golden = include_str!("golden/envelope.hex");
    let key = encode_key(&300_u64).expect("a key");
    let digest = key_digest("users", Some("acme"), &key);
    let mut lines = golden.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut check = |codec, value: &User, is_written_here: bool| {
        let settings =
            Settings { codec, compression: Compression::None, schema: 3, ..Settings::of::<User>() };
        let line = lines.next().expect("the golden file has a line for each case");
        if is_written_here {
            assert_eq!(hex(&seal(value, &settings, digest).expect("sealed")), line.replace(' ', ""));
        }
        assert_eq!(open::<User>(&bytes(line), &settings, digest).as_ref(), Ok(value));
    };
    check(Codec::Postcard, &user("Ann"), true);
    check(Codec::Json, &user("Ann"), true);
    // Compressed bytes may differ between versions of the compressor, but must stay readable.
    check(Codec::Postcard, &user(&"Ann".repeat(40)), false);
    #[cfg(feature = "bincode")]
    check(Codec::Bincode, &user("Ann"), true);
}
