//! Passwords, rights, certificates.

use std::fs;
use std::time::Duration;

use menshen::config::{RedisStore, RedisTls, SecretSource};
use menshen::store::{Store as _, StoreError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{as_documented, documented_user, key, open, run, standalone};
use crate::common::redis::{RedisFiles, RedisServer};

const MINUTE: Duration = Duration::from_secs(60);

async fn refusal(section: &RedisStore) -> String {
    let answer = open(section).put(&key(1), "a".into(), MINUTE).await;
    match answer {
        Err(StoreError::Unavailable(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_password_is_an_error_that_does_not_show_it() {
    let server = RedisServer::with(&["requirepass right", &documented_user()]);
    run(async {
        let wrong = Some(SecretSource::Inline("wrong-one".into()));
        for section in [
            standalone(&server),
            RedisStore { password: wrong.clone(), ..standalone(&server) },
            RedisStore { password: wrong, ..as_documented(standalone(&server)) },
        ] {
            let reason = refusal(&section).await;
            assert!(["NOAUTH", "WRONGPASS"].contains(&&*reason), "{reason}");
            assert!(!reason.contains("wrong-one"), "{reason}");
        }
        let right = Some(SecretSource::Inline("right".into()));
        let store = open(&RedisStore { password: right, ..standalone(&server) });
        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Ok(()));
        assert!(!format!("{store:?}").contains("right"));
    });
}

#[test]
fn missing_right_is_an_error() {
    let rule = documented_user().replace("+set ", "").replace("~menshen:*", "~menshen:s:*");
    let server = RedisServer::with(&[&rule]);
    run(async {
        let store = open(&as_documented(standalone(&server)));
        assert_eq!(store.get(&key(1)).await, Ok(None));
        let failed = [
            store.put(&key(1), "a".into(), MINUTE).await,
            store.append("a".into(), MINUTE).await.map(drop),
            store.log_after(0).await.map(drop),
            store.ping().await,
        ];
        for answer in failed {
            assert!(
                matches!(&answer, Err(StoreError::Unavailable(reason)) if reason.contains("NOPERM")),
                "{answer:?}"
            );
        }
    });
}

/// An authority, and what it issued to a server and its clients.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        // With the authority's name it would look like its own issuer.
        params.distinguished_name.push(DnType::CommonName, "redis");
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.path().join("leaf.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("leaf.key"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn files(&self) -> RedisFiles {
        let file = |name: &str| self.folder.path().join(name);
        RedisFiles { ca: file("ca.pem"), certificate: file("leaf.pem"), key: file("leaf.key") }
    }

    fn section(&self, server: &RedisServer) -> RedisStore {
        let RedisFiles { ca, certificate, key } = self.files();
        let tls = RedisTls {
            ca_file: Some(ca.into()),
            certificate: Some(certificate.into()),
            key: Some(key.into()),
        };
        RedisStore { tls: Some(tls), ..standalone(server) }
    }
}

#[test]
fn tls_with_the_right_authority_alone() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let server = RedisServer::with_tls(&[], &certificates.files());
    run(async {
        let right = certificates.section(&server);
        let store = open(&right);
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();
        assert_eq!(store.get(&key(1)).await, Ok(Some("a".into())));
        tokio::time::timeout(crate::common::PATIENCE, store.log_moved()).await.unwrap();

        let tls = right.tls.clone().unwrap();
        let with = |tls| RedisStore { tls, ..right.clone() };
        let wrong_authority = RedisTls { ca_file: Some(others.files().ca.into()), ..tls.clone() };
        let system_authorities = RedisTls { ca_file: None, ..tls.clone() };
        let nobody = RedisTls { certificate: None, key: None, ..tls };
        for refused in [Some(wrong_authority), Some(system_authorities), Some(nobody), None] {
            let reason = refusal(&with(refused)).await;
            assert!(!reason.is_empty());
        }
    });
}
