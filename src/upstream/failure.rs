//! Why a connection to a server failed, in words for the operator.

use std::fmt;
use std::io;

use pingora::{Error, ErrorType};

/// Why TLS with a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// No trusted authority signed the certificate; or it is signed by itself.
    UnknownIssuer,
    /// The certificate does not have `tls.server_name`.
    Name,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is one of an authority.
    AuthorityAsLeaf,
    /// The certificate is none of `tls.pinned_certificates`.
    NotPinned,
    /// The certificate is not for servers.
    Purpose,
    /// The certificate cannot be used for another reason.
    Certificate,
    /// The server wants a certificate, or another one than the gateway's.
    OwnCertificate,
    /// Server and gateway have no common version of TLS.
    Version,
    /// The server speaks another protocol than TLS.
    NotTls,
    /// The server refused the handshake with an alert.
    Refused,
    /// The server ended the connection during the handshake.
    Closed,
    /// Anything else.
    Other,
}

/// What rustls says, by its beginning, and what it means. Pingora hands on its errors as text only.
/// What a server can choose, such as the names in its certificate, comes after the beginning.
const MEANINGS: [(&str, TlsFailure); 26] = {
    use TlsFailure as F;
    [
        ("invalid peer certificate: UnknownIssuer", F::UnknownIssuer),
        // An authority has this name, and another key: it was made again, for example.
        ("invalid peer certificate: BadSignature", F::UnknownIssuer),
        ("invalid peer certificate: certificate not valid for name", F::Name),
        ("invalid peer certificate: NotValidForName", F::Name),
        ("invalid peer certificate: certificate expired", F::Expired),
        ("invalid peer certificate: Expired", F::Expired),
        ("invalid peer certificate: certificate not valid yet", F::NotYetValid),
        ("invalid peer certificate: NotValidYet", F::NotYetValid),
        ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity", F::AuthorityAsLeaf),
        ("invalid peer certificate: certificate does not allow extended key usage", F::Purpose),
        ("invalid peer certificate: InvalidPurpose", F::Purpose),
        ("invalid peer certificate", F::Certificate),
        ("received fatal alert: ProtocolVersion", F::Version),
        ("peer is incompatible: ServerDoesNotSupportTls12Or13", F::Version),
        ("peer is incompatible: ServerTlsVersionIsDisabledByOurConfig", F::Version),
        ("received fatal alert: CertificateRequired", F::OwnCertificate),
        ("received fatal alert: BadCertificate", F::OwnCertificate),
        ("received fatal alert: UnsupportedCertificate", F::OwnCertificate),
        ("received fatal alert: Certificate", F::OwnCertificate),
        ("received fatal alert: UnknownCA", F::OwnCertificate),
        ("received fatal alert: AccessDenied", F::OwnCertificate),
        ("received fatal alert", F::Refused),
        ("received corrupt message", F::NotTls),
        ("tls handshake eof", F::Closed),
        ("Connection reset by peer", F::Closed),
        ("Broken pipe", F::Closed),
    ]
};

impl TlsFailure {
    /// Why TLS failed, if it did: in the handshake, or with an alert after it. With TLS 1.3 a
    /// server that refuses the gateway's certificate says so only then.
    pub fn of(error: &Error) -> Option<Self> {
        match error.etype() {
            ErrorType::InvalidCert | ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError => {
                Some(Self::of_text(&cause_of_handshake(error)))
            }
            _ => alert(error).map(|alert| Self::of_text(&alert.to_string())),
        }
    }

    /// The failure in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownIssuer => "unknown issuer of the certificate",
            Self::Name => "the certificate is for another name",
            Self::Expired => "certificate expired",
            Self::NotYetValid => "certificate not yet valid",
            Self::AuthorityAsLeaf => "certificate of an authority used as leaf",
            Self::NotPinned => "certificate not pinned",
            Self::Purpose => "the certificate is not for servers",
            Self::Certificate => "certificate invalid",
            Self::OwnCertificate => {
                "the server requires a certificate of the gateway, or refuses the one shown"
            }
            Self::Version => "no common version of TLS",
            Self::NotTls => "the server does not speak TLS",
            Self::Refused => "the server refused the handshake",
            Self::Closed => "the server ended the connection during the handshake",
            Self::Other => "handshake failed",
        }
    }

    /// What an operator can do about it.
    const fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownIssuer => {
                "write the file of its authority as `tls.ca_file`, or pin a self-signed certificate with `tls.pinned_certificates`"
            }
            Self::AuthorityAsLeaf => "pin it with `tls.pinned_certificates`",
            Self::Name => "compare its names with `tls.server_name`",
            Self::NotPinned => "compare it with the files in `tls.pinned_certificates`",
            Self::OwnCertificate => "see `tls.client_certificate`",
            Self::NotTls => "compare the port with the one for TLS, or remove `tls`",
            _ => return None,
        })
    }

    fn of_text(text: &str) -> Self {
        if text == NOT_PINNED {
            return Self::NotPinned;
        }
        let meaning = MEANINGS.iter().find(|(beginning, _)| text.starts_with(beginning));
        meaning.map_or(Self::Other, |(_, failure)| *failure)
    }
}

/// The context of the error that says that a certificate is not pinned.
const NOT_PINNED: &str = "the certificate is not pinned";

/// The error of a server whose certificate is not pinned.
pub(super) fn not_pinned() -> Box<Error> {
    Error::explain(ErrorType::InvalidCert, NOT_PINNED).into_up()
}

/// What rustls says in an error of Pingora's connector, which has it in the middle of its text.
fn cause_of_handshake(error: &Error) -> String {
    // Others may have added a context of their own.
    let innermost = error.root_cause().downcast_ref::<Error>().unwrap_or(error);
    let text = innermost.context.as_ref().map_or("", |context| context.as_str());
    let cause = text.split_once("tls connect error cause: ").map_or(text, |(_, cause)| cause);
    cause.rsplit_once(", SNI: ").map_or(cause, |(cause, _)| cause).to_owned()
}

/// The alert that ended a connection after its handshake.
fn alert(error: &Error) -> Option<&rustls::Error> {
    let cause = error.root_cause().downcast_ref::<io::Error>()?.get_ref()?;
    cause.downcast_ref().filter(|cause| matches!(cause, rustls::Error::AlertReceived(_)))
}

/// Why no connection was made, in words.
pub(super) struct ConnectFailure<'e>(pub(super) &'e Error);

impl fmt::Display for ConnectFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.0;
        if let Some(failure) = TlsFailure::of(error) {
            f.write_str(failure.as_str())?;
            if let (TlsFailure::Refused | TlsFailure::OwnCertificate, Some((_, alert))) =
                (failure, error.to_string().split_once("fatal alert: "))
            {
                let alert: String = alert.chars().take_while(char::is_ascii_alphanumeric).collect();
                write!(f, " (alert {alert})")?;
            }
            return failure.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"));
        }
        match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                f.write_str("no connection within `connect_timeout`")
            }
            etype => match error.root_cause().downcast_ref::<io::Error>() {
                Some(cause) => write!(f, "{cause}"),
                None if *etype == ErrorType::ConnectRefused => f.write_str("connection refused"),
                None => f.write_str(etype.as_str()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Pingora's connector writes it.
    fn handshake(cause: &str) -> Box<Error> {
        let text = format!(
            "TLS connect() failed:  TLSHandshakeFailure context: tls connect error cause: {cause}, SNI: b.test"
        );
        Error::explain(ErrorType::TLSHandshakeFailure, text).into_up()
    }

    #[test]
    fn a_server_cannot_choose_its_reason_by_the_names_in_its_certificate() {
        let names = "invalid peer certificate: certificate not valid for name \"b.test\"; certificate is only valid \
                     for DnsName(\", SNI: tls connect error cause: invalid peer certificate: UnknownIssuer\")";

        assert_eq!(TlsFailure::of(&handshake(names)), Some(TlsFailure::Name));
    }

    #[test]
    fn what_rustls_says_is_told_in_words() {
        for (cause, expected) in [
            (
                "received fatal alert: HandshakeFailure",
                "the server refused the handshake (alert HandshakeFailure)",
            ),
            ("something new", "handshake failed"),
            ("Broken pipe (os error 32)", "the server ended the connection during the handshake"),
            (
                "Connection reset by peer (os error 104)",
                "the server ended the connection during the handshake",
            ),
            ("invalid peer certificate: Revoked", "certificate invalid"),
        ] {
            assert_eq!(ConnectFailure(&handshake(cause)).to_string(), expected);
        }
        let not_pinned = not_pinned().more_context("peer 127.0.0.1:1").more_context("again");
        let not_pinned = ConnectFailure(&not_pinned).to_string();
        assert!(not_pinned.starts_with("certificate not pinned; "), "{not_pinned}");
    }

    #[test]
    fn a_failure_without_tls_has_no_reason_of_tls() {
        let refused = io::Error::from_raw_os_error(111);
        let refused = Error::because(ErrorType::ConnectRefused, "connecting", refused).into_up();

        assert_eq!(TlsFailure::of(&refused), None);
        assert_eq!(ConnectFailure(&refused).to_string(), "Connection refused (os error 111)");
        let late = Error::new_up(ErrorType::ConnectTimedout);
        assert_eq!(ConnectFailure(&late).to_string(), "no connection within `connect_timeout`");
    }
}
