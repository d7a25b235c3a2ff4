//! The PROXY protocol, versions 1 and 2: what a load balancer says about the client before the
//! client's first byte.
//!
//! See <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The header is read to its
//! last byte and no further; what follows it belongs to TLS or HTTP. The listener decides who may
//! send one.

use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest header of version 1, line end included.
const MAX_V1_BYTES: usize = 107;
/// Version 2 begins with these, and no HTTP request or TLS handshake does.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 2 begins with: signature, version and command, family and protocol, length of the
/// rest.
const V2_FIXED_BYTES: usize = 16;
/// Longest rest of version 2 that is read: addresses, and what a balancer adds to them, such as a
/// certificate's name.
const MAX_V2_REST_BYTES: usize = 2048;

/// What a header says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The balancer passes on the connection of the client at this address.
    Proxied(SocketAddr),
    /// The connection is the balancer's own, for its health checks. The protocol's word is LOCAL.
    Local,
}

/// The bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a header of the PROXY protocol")]
pub struct InvalidProxyHeader;

/// Reads a header from the beginning of a connection.
///
/// # Errors
/// [`InvalidProxyHeader`] if the bytes are no header, if the header is larger than any balancer
/// sends, or if its client has no IP address.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, InvalidProxyHeader> {
    let mut bytes = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut bytes).await.map_err(|_| InvalidProxyHeader)?;
    if bytes == V2_SIGNATURE {
        read_v2_rest(stream, &mut bytes).await?;
    } else {
        read_v1_rest(stream, &mut bytes).await?;
    }
    parse(&bytes)
}

/// Parses a whole header.
///
/// # Errors
/// [`InvalidProxyHeader`]
pub fn parse(bytes: &[u8]) -> Result<ProxyHeader, InvalidProxyHeader> {
    match HeaderResult::parse(bytes) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(ip) => Ok(proxied(ip.source_address.into(), ip.source_port)),
            v1::Addresses::Tcp6(ip) => Ok(proxied(ip.source_address.into(), ip.source_port)),
            v1::Addresses::Unknown => Ok(ProxyHeader::Local),
        },
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(ProxyHeader::Local),
        HeaderResult::V2(Ok(header)) if header.protocol == v2::Protocol::Stream => match header.addresses {
            v2::Addresses::IPv4(ip) => Ok(proxied(ip.source_address.into(), ip.source_port)),
            v2::Addresses::IPv6(ip) => Ok(proxied(ip.source_address.into(), ip.source_port)),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Err(InvalidProxyHeader),
        },
        HeaderResult::V1(_) | HeaderResult::V2(_) => Err(InvalidProxyHeader),
    }
}

fn proxied(address: IpAddr, port: u16) -> ProxyHeader {
    ProxyHeader::Proxied(SocketAddr::new(address.to_canonical(), port))
}

/// One byte at a time, from a buffer: nothing says how long the line is.
async fn read_v1_rest(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<(), InvalidProxyHeader> {
    if !bytes.starts_with(b"PROXY ") {
        return Err(InvalidProxyHeader);
    }
    while !bytes.ends_with(b"\r\n") {
        if bytes.len() == MAX_V1_BYTES {
            return Err(InvalidProxyHeader);
        }
        bytes.push(stream.read_u8().await.map_err(|_| InvalidProxyHeader)?);
    }
    Ok(())
}

async fn read_v2_rest(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<(), InvalidProxyHeader> {
    let mut fixed = [0; V2_FIXED_BYTES - V2_SIGNATURE.len()];
    stream.read_exact(&mut fixed).await.map_err(|_| InvalidProxyHeader)?;
    let [_, _, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2_REST_BYTES {
        return Err(InvalidProxyHeader);
    }
    bytes.extend_from_slice(&fixed);
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.map_err(|_| InvalidProxyHeader)?;
    bytes.extend_from_slice(&rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[0x20 | command, family], &length, rest].concat()
    }

    fn v2_ipv4() -> Vec<u8> {
        v2(1, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb])
    }

    /// What the header says, and what is left of the stream.
    fn read_from(bytes: &[u8]) -> (Result<ProxyHeader, InvalidProxyHeader>, Vec<u8>) {
        let mut stream = bytes;
        let said = futures_util::FutureExt::now_or_never(read(&mut stream)).unwrap();
        (said, stream.to_vec())
    }

    #[test]
    fn a_header_names_the_client_and_leaves_what_follows() {
        let client = |text: &str| Ok(ProxyHeader::Proxied(text.parse().unwrap()));
        let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".as_slice();
        let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 56324 443\r\n".as_slice();
        let mut v2_ipv6 = vec![0x20, 0x01, 0x0d, 0xb8];
        v2_ipv6.extend_from_slice(&[0; 11]);
        v2_ipv6.push(7);
        v2_ipv6.extend_from_slice(&[0; 16]);
        v2_ipv6.extend_from_slice(&[0xdc, 0x04, 0x01, 0xbb]);
        let mut with_more = [203, 0, 113, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb].to_vec();
        with_more.extend_from_slice(&[0x02, 0, 3, b'a', b'b', b'c']);
        for (header, expected) in [
            (V4.to_vec(), client("203.0.113.7:56324")),
            (v6.to_vec(), client("[2001:db8::7]:56324")),
            (mapped.to_vec(), client("203.0.113.7:56324")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(ProxyHeader::Local)),
            (b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n".to_vec(), Ok(ProxyHeader::Local)),
            (v2_ipv4(), client("203.0.113.7:56324")),
            (v2(1, 0x21, &v2_ipv6), client("[2001:db8::7]:56324")),
            (v2(1, 0x11, &with_more), client("203.0.113.7:56324")),
            (v2(0, 0x00, &[]), Ok(ProxyHeader::Local)),
            (v2(0, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0, 1, 0, 1]), Ok(ProxyHeader::Local)),
        ] {
            let stream = [&header[..], b"GET / HTTP/1.1\r\n"].concat();

            assert_eq!(read_from(&stream), (expected, b"GET / HTTP/1.1\r\n".to_vec()), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        for bytes in [
            b"".as_slice(),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00",
            b"proxy TCP4 203.0.113.7 192.0.2.1 56324 443\r\n",
            b"PROXY  TCP4 203.0.113.7 192.0.2.1 56324 443\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
            b"PROXY TCP4 203.0.113.007 192.0.2.1 56324 443\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
            b"PROXY TCP6 203.0.113.7 192.0.2.1 56324 443\r\n",
            b"PROXY UDP4 203.0.113.7 192.0.2.1 56324 443\r\n",
            b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443",
            &long,
            V2_SIGNATURE,
            &v2(1, 0x00, &[]),
            &v2(1, 0x12, &[203, 0, 113, 7, 192, 0, 2, 1, 0, 1, 0, 1]),
            &v2(1, 0x31, &[0; 216]),
            &v2(2, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0, 1, 0, 1]),
            &v2(1, 0x11, &[203, 0, 113, 7]),
            &v2(1, 0x11, &[0; 4096]),
            &v2_ipv4().into_iter().take(20).collect::<Vec<_>>(),
        ] {
            assert_eq!(read_from(bytes).0, Err(InvalidProxyHeader), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_reading_says_what_parsing_does(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [bytes.clone(), [V4.split_at(11).0, &bytes].concat(), [V2_SIGNATURE, &bytes[..]].concat()] {
                let (said, rest) = read_from(&bytes);
                if let Ok(said) = said {
                    let header = bytes.strip_suffix(&rest[..]).unwrap();
                    prop_assert_eq!(parse(header), Ok(said));
                }
            }
        }
    }
}
