//! A browser played over a raw socket: it keeps cookies, and shows what was sent to the byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use menshen::emulator::{EmulatedSignIn, Emulator};

use super::site::SESSION;
use super::{Connection, Response, leaks};

/// A user's browser, with a cookie jar.
#[derive(Clone, Debug)]
pub struct Visitor {
    address: SocketAddr,
    /// What the address bar shows between `http://` and the path.
    pub host: String,
    pub cookies: BTreeMap<String, String>,
}

/// A person on the way to WeChat.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Where the browser was sent.
    pub location: String,
    pub appid: String,
    pub redirect_uri: String,
    pub scope: String,
    pub state: String,
}

impl Visitor {
    /// A browser at `http://{address}`.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), cookies: BTreeMap::new() }
    }

    /// The same browser, at another node of the same site.
    pub fn at_node(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Opens a page: with the headers of a browser whose person typed the address.
    pub fn open(&mut self, path: &str) -> Response {
        let headers = "Accept: text/html,application/xhtml+xml\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: none\r\n";
        self.send("GET", path, headers, "")
    }

    /// Sends a request with the cookies there are, and keeps those that come back.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let response = self.send_only(method, path, headers, body);
        for cookie in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            self.keep(&cookie.1);
        }
        response
    }

    /// As [`Visitor::send`], keeping no cookie.
    pub fn send_only(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let cookie = self.cookie_line();
        let length = if body.is_empty() && method == "GET" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{cookie}{headers}{length}\r\n{body}", self.host);
        Connection::open(self.address).send(request.as_bytes())
    }

    /// The header line with all cookies; empty where there is none.
    pub fn cookie_line(&self) -> String {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) }
    }

    /// Leaves for WeChat; where the gateway sent the browser.
    #[track_caller]
    pub fn begin(&mut self, app: &str, return_to: &str) -> Begun {
        let query =
            form_urlencoded::Serializer::new(String::new()).append_pair("return_to", return_to).finish();
        let response = self.open(&format!("/auth/web/{app}/start?{query}"));
        assert_eq!(response.status, 303, "{}", response.text());
        Begun::at(response.header("location").unwrap())
    }

    /// Comes back from WeChat with a person's code.
    pub fn come_back(&mut self, emulator: &Emulator, begun: &Begun, person: &str) -> Response {
        let path = begun.callback(emulator, person);
        self.open(&path)
    }

    /// Signs a person in, as far as the page they wanted.
    #[track_caller]
    pub fn sign_in(&mut self, emulator: &Emulator, app: &str, person: &str) {
        let begun = self.begin(app, "/page");
        let response = self.come_back(emulator, &begun, person);
        assert_eq!(
            (response.status, response.header("location")),
            // The empty fragment keeps that of WeChat's address from an official account's people.
            (303, Some(if app == "account" { "/page#" } else { "/page" })),
            "{}",
            response.text()
        );
    }

    fn keep(&mut self, set_cookie: &str) {
        let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
        let (name, value) = pair.split_once('=').unwrap();
        if attributes.split(';').any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0")) {
            self.cookies.remove(name);
        } else {
            if name == SESSION {
                leaks::watch_for(value);
            }
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl Begun {
    /// Reads the address that the gateway sent the browser to.
    pub fn at(location: &str) -> Self {
        let query = location.split_once('?').expect("a query").1.split('#').next().unwrap();
        let parameters: BTreeMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let parameter = |name: &str| parameters.get(name).unwrap_or_else(|| panic!("no {name}: {location}"));
        leaks::watch_for(parameter("state"));
        Self {
            location: location.to_owned(),
            appid: parameter("appid").clone(),
            redirect_uri: parameter("redirect_uri").clone(),
            scope: parameter("scope").clone(),
            state: parameter("state").clone(),
        }
    }

    /// A fresh code of a person.
    pub fn code(&self, emulator: &Emulator, person: &str) -> String {
        let order = EmulatedSignIn {
            appid: self.appid.clone(),
            wxid: person.to_owned(),
            redirect_uri: self.redirect_uri.clone(),
            scope: self.scope.clone(),
            state: self.state.clone(),
        };
        let code = emulator.sign_in(&order).unwrap_or_else(|error| panic!("{error:?}: {self:?}")).code;
        leaks::watch_for(&code);
        code
    }

    /// The path where the browser comes back with this code.
    pub fn callback_with(&self, code: &str) -> String {
        let at = self.redirect_uri.match_indices('/').nth(2).expect("a path").0;
        format!("{}?code={code}&state={}", &self.redirect_uri[at..], self.state)
    }

    /// The path where the browser comes back with a fresh code of a person.
    pub fn callback(&self, emulator: &Emulator, person: &str) -> String {
        self.callback_with(&self.code(emulator, person))
    }
}
