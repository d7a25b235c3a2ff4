use std::fs;
use std::time::Duration;

use super::error::{Cause, Failure};
use super::*;
use crate::config::{FilePath, RedisDurability, RedisStore, RedisTls, RedisTopology, SecretSource};

/// Returns the paths of the findings, and whether the engine was built.
fn check(section: &RedisStore) -> (Vec<String>, bool) {
    let mut findings = Findings::default();
    let built = Redis::build(section, &Metrics::new().unwrap(), &mut findings).is_some();
    assert_eq!(built, !findings.has_errors());
    (findings.iter().map(|finding| finding.path.clone()).collect(), built)
}

#[track_caller]
fn assert_refused(section: &RedisStore, path: &str) {
    assert_eq!(check(section), (vec![format!("store.redis.{path}")], false), "{section:?}");
}

fn inline(text: &str) -> Option<SecretSource> {
    Some(SecretSource::Inline(text.into()))
}

#[test]
fn default_section_is_sound_and_connects_to_nothing() {
    assert_eq!(check(&RedisStore::default()), (Vec::new(), true));
}

#[test]
fn address_is_a_host_and_a_port() {
    let with = |address: &str| RedisStore { addresses: vec![address.into()], ..RedisStore::default() };
    for sound in ["10.0.0.5:6379", "redis:1", "a-b_c.example:65535", "[::1]:6379"] {
        assert!(check(&with(sound)).1, "{sound}");
    }
    let unsound = [
        "",
        "redis",
        ":6379",
        "redis:",
        "redis:0",
        "redis:65536",
        "redis:x",
        "::1:6379",
        "[::1]",
        "[x]:6379",
        "redis://a:6379",
        "user@redis:6379",
        "a b:6379",
        "/run/redis.sock",
    ];
    for address in unsound {
        assert_refused(&with(address), "addresses[0]");
    }
    assert_refused(&RedisStore { addresses: Vec::new(), ..RedisStore::default() }, "addresses");
    let two = vec!["a:1".to_owned(), "b:1".to_owned()];
    assert_refused(&RedisStore { addresses: two, ..RedisStore::default() }, "addresses");
}

#[test]
fn topology_needs_its_own_keys_and_refuses_others() {
    let sentinel = RedisStore { topology: RedisTopology::Sentinel, ..RedisStore::default() };
    assert_refused(&sentinel, "master_name");
    assert_refused(&RedisStore { master_name: Some(String::new()), ..sentinel.clone() }, "master_name");
    assert!(check(&RedisStore { master_name: Some("m".into()), ..sentinel }).1);
    for topology in [RedisTopology::Standalone, RedisTopology::Cluster] {
        let section = RedisStore { topology, ..RedisStore::default() };
        assert_refused(&RedisStore { master_name: Some("m".into()), ..section.clone() }, "master_name");
        let (paths, built) = check(&RedisStore { sentinel_password: inline("x"), ..section });
        assert!(paths.contains(&"store.redis.sentinel_password".to_owned()) && !built);
    }
    let cluster = RedisStore { topology: RedisTopology::Cluster, database: 1, ..RedisStore::default() };
    assert_refused(&cluster, "database");
}

#[test]
fn prefix_cannot_move_a_hash_tag_or_be_a_pattern() {
    for prefix in ["", "a{b", "a}b", "{}", "a*", "a b", "a\n", "ä", &"a".repeat(65)] {
        assert_refused(&RedisStore { prefix: prefix.into(), ..RedisStore::default() }, "prefix");
    }
    let prefix = "menshen:eu-1.blue_".to_owned();
    assert!(check(&RedisStore { prefix, ..RedisStore::default() }).1);
}

#[test]
fn limits_that_are_zero_or_too_large_are_refused() {
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(60)] {
        let time = config::Duration(time);
        assert_refused(&RedisStore { timeout: time, ..RedisStore::default() }, "timeout");
        assert_refused(&RedisStore { connect_timeout: time, ..RedisStore::default() }, "connect_timeout");
        let durability = RedisDurability { timeout: time, ..RedisDurability::default() };
        assert_refused(&RedisStore { durability, ..RedisStore::default() }, "durability.timeout");
    }
    for max_in_flight in [0, usize::MAX] {
        assert_refused(&RedisStore { max_in_flight, ..RedisStore::default() }, "max_in_flight");
    }
}

#[test]
fn user_needs_a_password_that_can_be_read() {
    assert_refused(&RedisStore { username: Some("m".into()), ..RedisStore::default() }, "username");
    let missing = serde_json::from_str(r#"{"file": "/nowhere/at/all"}"#).unwrap();
    assert_refused(&RedisStore { password: Some(missing), ..RedisStore::default() }, "password");
    let section =
        RedisStore { username: Some("m".into()), password: inline("hidden"), ..RedisStore::default() };
    let store = Redis::build(&section, &Metrics::new().unwrap(), &mut Findings::default()).unwrap();
    assert!(!format!("{store:?}").contains("hidden"));
}

#[test]
fn certificate_without_its_key_or_without_a_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> Option<FilePath> {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path.into())
    };
    let key = rcgen::generate_simple_self_signed(vec!["redis".into()]).unwrap();
    let certificate = file("certificate", &key.cert.pem());
    let private = file("key", &key.signing_key.serialize_pem());
    let empty = file("empty", "");
    let nowhere = Some(FilePath::from("/nowhere/at/all"));
    let with =
        |ca_file: &Option<FilePath>, certificate: &Option<FilePath>, key: &Option<FilePath>| RedisStore {
            tls: Some(RedisTls {
                ca_file: ca_file.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            ..RedisStore::default()
        };

    assert!(check(&with(&certificate, &certificate, &private)).1);
    assert!(check(&with(&None, &None, &None)).1);
    assert_refused(&with(&None, &certificate, &None), "tls.certificate");
    assert_refused(&with(&None, &None, &private), "tls.key");
    assert_refused(&with(&nowhere, &None, &None), "tls.ca_file");
    assert_refused(&with(&empty, &None, &None), "tls.ca_file");
    assert_refused(&with(&private, &None, &None), "tls.ca_file");
    assert_refused(&with(&None, &empty, &private), "tls.certificate");
    assert_refused(&with(&None, &certificate, &empty), "tls");
    assert_refused(&with(&None, &certificate, &nowhere), "tls.key");
}

fn failure(answer: &str) -> Failure {
    let value = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
    Failure::from(value.extract_error().unwrap_err())
}

#[test]
fn error_answers_are_named_by_their_code_and_never_quoted() {
    let answers = [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", Cause::Refused),
        ("MISCONF Redis is configured to save SECRET", "MISCONF", Cause::Refused),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", Cause::Refused),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", Cause::Refused),
        ("NOPERM User SECRET has no permissions", "NOPERM", Cause::Step),
        ("ERR unknown command 'X', with args beginning with: 'SECRET'", "ERR a command", Cause::Step),
        ("ERR Error running script: SECRET", "ERR (see the log", Cause::Step),
        ("NOSCRIPT No matching script.", "NOSCRIPT", Cause::UnknownScript),
        ("MOVED 1 10.0.0.1:1", "MOVED", Cause::NotMade),
        ("TRYAGAIN Multiple keys", "TRYAGAIN", Cause::NotMade),
        ("READONLY You can't write against a read only replica.", "READONLY", Cause::WrongServer),
        ("LOADING Redis is loading the dataset in memory", "LOADING", Cause::WrongServer),
        ("NOAUTH Authentication required.", "NOAUTH", Cause::WrongServer),
        ("UNBLOCKED force unblock", "UNBLOCKED", Cause::WrongServer),
        ("SOMETHING new SECRET", "SOMETHING", Cause::Refused),
    ];
    for (answer, told, cause) in answers {
        let failure = failure(answer);
        let StoreError::Unavailable(text) = &failure.error else { panic!("{answer}: {failure:?}") };
        assert!(text.starts_with(told) && !text.contains("SECRET"), "{answer}: {text}");
        assert_eq!(failure.cause, cause, "{answer}");
    }
    for answer in ["WRONGTYPE Operation against SECRET", "ERR value is not an integer or out of range"] {
        assert!(matches!(failure(answer).error, StoreError::Damaged(_)), "{answer}");
    }
}

#[test]
fn write_is_durable_only_when_enough_servers_have_it() {
    let check = |fsync, replicas, answer: Value| {
        let durability = section::Durability { replicas, fsync, timeout: Duration::from_secs(1) };
        durability.check(answer).map_err(|failure| failure.error)
    };
    let both = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
    let lacking = |acknowledged, wanted| Err(StoreError::NotReplicated { acknowledged, wanted });

    assert_eq!(check(false, 2, Value::Int(2)), Ok(()));
    assert_eq!(check(false, 2, Value::Int(3)), Ok(()));
    assert_eq!(check(false, 2, Value::Int(1)), lacking(1, 2));
    assert_eq!(check(true, 0, both(1, 0)), Ok(()));
    assert_eq!(check(true, 1, both(1, 1)), Ok(()));
    assert_eq!(check(true, 0, both(0, 3)), lacking(0, 1));
    assert_eq!(check(true, 1, both(0, 2)), lacking(1, 2));
    assert_eq!(check(true, 2, both(1, 1)), lacking(2, 3));
    for nonsense in [Value::Nil, Value::Okay, Value::Array(Vec::new()), Value::Int(-1), both(1, 1)] {
        assert!(check(false, 1, nonsense.clone()).is_err(), "{nonsense:?}");
    }
    for nonsense in [Value::Nil, Value::Int(9), Value::Array(vec![Value::Int(1)])] {
        assert!(check(true, 0, nonsense.clone()).is_err(), "{nonsense:?}");
    }
}

#[test]
fn malformed_answer_of_the_log_is_refused() {
    let text = |text: &str| Value::BulkString(text.into());
    let log = |parts: Vec<Value>| log(Value::Array(parts), 1);
    let entry = || text(&format!("{}entry", "0".repeat(32)));
    let whole = |rows| log(vec![Value::Int(2), text("s"), Value::Int(1), Value::Array(rows)]);

    assert!(whole(vec![entry()]).is_some());
    assert!(whole(vec![]).is_none(), "an entry is missing");
    assert!(whole(vec![entry(), entry()]).is_none());
    assert!(whole(vec![Value::Nil]).is_none());
    assert!(whole(vec![text("short")]).is_none());
    assert!(log(vec![Value::Int(2), text("s"), Value::Int(1)]).is_none());
    assert!(log(vec![Value::Int(-1), text("s"), Value::Int(0)]).is_none());
    assert!(log(vec![Value::Int(2), Value::Nil, Value::Int(0)]).is_none());
    assert!(log(vec![]).is_none());
    assert!(super::log(Value::Nil, 1).is_none());
}
