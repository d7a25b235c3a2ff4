//! Mutants of the seeds. The same start number gives the same mutants.

/// Longest mutant.
const MOST_BYTES: usize = 16 * 1024;

/// Texts with a special meaning for some parser.
const TOKENS: &[&[u8]] = &[
    b"%",
    b"%2e",
    b"%2F",
    b"%5c",
    b"%00",
    b"%25",
    b"%3b",
    b"%61",
    b"%c3%a9",
    b"%ff",
    b"/",
    b"//",
    b"\\",
    b"..",
    b"/./",
    b"/../",
    b";",
    b";x=y",
    b"?",
    b"#",
    b"@",
    b":",
    b":443",
    b"::ffff:",
    b"[::1]",
    b"10.0.0.1",
    b"1.2.3.4",
    b"127.1",
    b"unknown",
    b",",
    b", ",
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc0\xaf",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\"",
    b"'",
    b"<",
    b"_",
    b"-",
    b".",
    b"~",
    b"=",
    b"&",
    b"+",
    b"*",
    b"|",
    b"!",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"9223372036854775808",
    b"\\u0000",
    b"\\u0061",
    b"\\ud800",
    b"\"errcode\":0,",
    b"\"errcode\":40029,",
    b"\"openid\":\"o\",",
    b"\"unionid\":\"u\",",
    b"\"is_snapshotuser\":1,",
    b"\"code\":\"x\",",
    b"\"all\":true,",
    b"__Host-menshen",
    b"__Host-menshen=x; ",
    b"__host-MENSHEN",
    b"; ",
    b"https://",
    b"https://shop.example.com",
    b"evil.example",
    b"javascript:",
    b"/auth",
    b"/api",
    b"Host: a\n",
    b"Host: ",
    b"Content-Length: 5\n",
    b"Transfer-Encoding: chunked\n",
    b"X-WX-OPENID",
    b"X_User_Id",
    b"x-forwarded-",
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"code=x",
    b"state=y",
    b"openid=o1",
    b"q=0.5",
    b"en",
    b"zh",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9f",
    b"\x5f",
    b"\xf6",
    b"&a ",
    b"*a",
    b"- ",
    b": ",
    b"!!",
    b"|\n ",
];

pub(super) struct Mutants {
    seeds: Vec<Vec<u8>>,
    state: u64,
    input: Vec<u8>,
}

impl Mutants {
    pub(super) fn new(seeds: Vec<Vec<u8>>, state: u64) -> Self {
        Self { seeds, state, input: Vec::new() }
    }

    pub(super) fn next(&mut self) -> &[u8] {
        let seed = self.below(self.seeds.len());
        self.input.clone_from(&self.seeds[seed]);
        for _ in 0..=self.below(6) {
            self.change();
        }
        self.input.truncate(MOST_BYTES);
        &self.input
    }

    fn change(&mut self) {
        let (from, to) = (self.place(), self.place());
        let (from, to) = (from.min(to), from.max(to));
        let near = (from + 1 + self.below(4)).min(self.input.len());
        match self.below(9) {
            0 => {
                let bit = self.below(8);
                self.input.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            1 => {
                let value = self.random().to_le_bytes()[0];
                self.input.iter_mut().skip(from).take(1).for_each(|byte| *byte = value);
            }
            2 | 3 => {
                let token = TOKENS[self.below(TOKENS.len())];
                self.input.splice(from..from, token.iter().copied());
            }
            4 => {
                let token = TOKENS[self.below(TOKENS.len())];
                self.input.splice(from..near.max(from), token.iter().copied());
            }
            5 => drop(self.input.drain(from..near.max(from))),
            6 => {
                let piece = self.input[from..to].to_vec();
                self.input.splice(to..to, piece);
            }
            7 => {
                let other = self.below(self.seeds.len());
                let other = self.seeds[other].clone();
                let at = self.below(other.len() + 1);
                self.input.splice(from.., other[at..].iter().copied());
            }
            _ => self.input.truncate(to),
        }
    }

    fn place(&mut self) -> usize {
        let length = self.input.len();
        self.below(length + 1)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random() % end as u64).unwrap()
    }

    /// SplitMix64: fast, and random enough to choose mutations.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
