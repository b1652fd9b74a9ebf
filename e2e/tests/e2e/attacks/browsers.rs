//! Pages of strangers, in the browser of somebody who may.

use e2e::{Backend, Gateway};

use super::{AUTH, KEY, code};

#[test]
fn pages_of_strangers_neither_read_nor_change_anything() {
    // The service would let in everybody: what it says about that does not count.
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nContent-Length: 2\r\n\r\nok",
    );
    let route = "auth: keys, cors: { origins: [\"https://app.test\", \"https://*.apps.test\"], credentials: on }, csrf: { origins: [\"https://app.test\"] }";
    let gateway = Gateway::run(&format!("{AUTH}{}", e2e::forward_with(backend.address(), "", route)));
    let key = format!("X-API-Key: {KEY}\r\n");
    for (origin, allowed) in [
        ("https://app.test", true),
        ("https://a.apps.test", true),
        ("https://a.b.apps.test", true),
        ("https://evil.test", false),
        ("null", false),
        ("", false),
        ("http://app.test", false),
        ("https://app.test:444", false),
        ("https://app.test.evil.test", false),
        ("https://evil-app.test", false),
        ("https://apps.test", false),
        ("https://evilapps.test", false),
        ("https://a.apps.test.evil.test", false),
        ("https://evil.test/.apps.test", false),
        ("https://evil.test?.apps.test", false),
        ("https://app.test, https://evil.test", false),
        ("https://APP.test", false),
    ] {
        let said = |reply: &e2e::wire::Message| {
            let origin_told = reply.field("access-control-allow-origin").map(str::to_owned);
            let expected = allowed.then(|| origin.to_owned());
            assert_eq!(origin_told, expected, "{origin}: {:?}", reply.head);
            assert_eq!(reply.field("access-control-allow-credentials").is_some(), allowed, "{origin}");
            assert!(reply.field("vary").is_some_and(|vary| vary.contains("Origin")), "{origin}: {:?}", reply.head);
        };
        let fields = format!("Origin: {origin}\r\n");
        said(&gateway.connect().get_with("/", &format!("{key}{fields}")));
        let refused = gateway.connect().get_with("/", &fields);
        assert_eq!(refused.status(), 401);
        said(&refused);
        let preflight = format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\n{fields}Access-Control-Request-Method: DELETE\r\nAccess-Control-Request-Headers: x-api-key\r\n\r\n"
        );
        let answer = gateway.connect().send(preflight).reply();
        assert_eq!(answer.status(), 204, "{origin}");
        said(&answer);
        assert_eq!(answer.field("access-control-allow-methods").is_some(), allowed, "{origin}");
    }
    let before = backend.requests().len();
    for fields in [
        "Origin: https://evil.test\r\n",
        "Origin: null\r\n",
        "Origin: https://app.test.evil.test\r\n",
        "Referer: https://evil.test/https://app.test/\r\n",
        "Referer: https://app.test@evil.test/\r\n",
        "Sec-Fetch-Site: cross-site\r\nCookie: session=1\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: https://evil.test\r\n",
        "Cookie: session=1\r\n",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{key}{fields}Content-Length: 0\r\n\r\n");
            let reply = gateway.connect().send(request).reply();
            assert_eq!((reply.status(), &*code(&reply)), (403, "csrf_refused"), "{method} {fields}");
        }
        let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let reply = gateway.connect().get_with("/", &format!("{key}{fields}{socket}"));
        assert_eq!(code(&reply), "csrf_refused", "a web socket: {fields}");
    }
    assert_eq!(backend.requests().len(), before, "the service was asked");
    assert!(backend.requests().iter().all(|request| request.head.method() == "GET"), "preflights are the gateway's");
}
