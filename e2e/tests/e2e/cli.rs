//! The command line, as a new user meets it.

use e2e::Folder;
use e2e::gateway::tidegate;

#[test]
fn a_good_file_passes_the_check() {
    let folder = Folder::new();
    let file = folder.write("g.yaml", "services: { users: { url: http://127.0.0.1:9001 } }\nroutes: [{ match: { path_prefix: / }, service: users }]\n");
    let checked = tidegate(&["check", &file.display().to_string()], &[]);
    assert_eq!(checked.code, 0, "{}", checked.errors);
    let shown = tidegate(&["check", &file.display().to_string(), "--show"], &[]);
    assert_eq!(shown.code, 0);
    assert!(shown.output.contains("users") && shown.output.contains("8080"), "every effective value: {}", shown.output);
}

#[test]
fn ten_mistakes_are_shown_in_one_run_each_with_its_place_and_advice() {
    let folder = Folder::new();
    let yaml = "server:\n  prot: 8080\n  timeouts: { idle: 30 }\nservices:\n  users: { url: \"http://127.0.0.1:9001/path\" }\n  \
                orders: { url: 12 }\nroutes:\n- match: { path: \"/a/{id\" }\n  service: users\n- match: { path: /b }\n  service: user\n\
                - match: { path: /c }\n  service: users\n  timeout: soon\n- match: { path: /d, methods: [GET], methods: [PUT] }\n  \
                service: users\n- match: { path: /e }\n- match: { path: /f, host: \"a b\" }\n  service: users\n\
                - match: { path: /g }\n  service: users\n  cache: { ttl: 60 }\n- { match: { path: /h }, respond: { status: 9000 } }\n";
    let file = folder.write("bad.yaml", yaml).display().to_string();
    let checked = tidegate(&["check", &file], &[]);
    assert_eq!(checked.code, 1);
    let told = checked.output.clone() + &checked.errors;
    for part in [
        "bad.yaml:2:3",
        "port",
        "bad.yaml:3",
        "bad.yaml:5",
        "bad.yaml:6",
        "bad.yaml:8",
        "bad.yaml:11",
        "users",
        "bad.yaml:14",
        "bad.yaml:15",
        "bad.yaml:17",
        "bad.yaml:18",
        "not supported yet",
        "bad.yaml:23",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    let json = tidegate(&["check", &file, "--format", "json"], &[]);
    assert_eq!(json.code, 1);
    let told: serde_json::Value = serde_json::from_str(&json.output).unwrap_or_else(|e| panic!("{e}: {}", json.output));
    let listed = told.as_array().or_else(|| told["problems"].as_array()).expect("a list of problems");
    assert!(listed.len() >= 10, "{told:#}");
    assert!(listed.iter().all(|p| p["line"].is_number() && p["message"].is_string()), "{told:#}");
}

#[test]
fn a_file_that_is_not_there_is_another_exit_code() {
    let checked = tidegate(&["check", "/nonexistent.yaml"], &[]);
    assert_eq!(checked.code, 2);
    assert!(checked.errors.contains("/nonexistent.yaml"), "{}", checked.errors);
    assert_eq!(tidegate(&["no-such-command"], &[]).code, 2);
    assert_eq!(tidegate(&["run"], &[]).code, 2);
}

#[test]
fn explain_says_who_wins_and_why_the_others_do_not() {
    let folder = Folder::new();
    let file = folder
        .write(
            "g.yaml",
            "services: { app: { url: http://127.0.0.1:9001 } }\nroutes:\n\
             - { name: user, match: { path: \"/users/{id}\", methods: [GET] }, service: app, rewrite: { path: \"/v2/{path.id}\" } }\n\
             - { name: beta, match: { path: \"/users/{id}\", headers: { x-beta: present } }, service: app }\n\
             - { name: other, match: { path: /other }, service: app }\n",
        )
        .display()
        .to_string();
    let told = tidegate(&["explain", &file, "GET", "http://example.test/users/7"], &[]);
    assert_eq!(told.code, 0, "{}", told.errors);
    for part in ["user", "beta", "x-beta", "other", "/v2/7"] {
        assert!(told.output.contains(part), "{part} is missing in:\n{}", told.output);
    }
    let told = tidegate(&["explain", &file, "GET", "http://example.test/users/7", "-H", "X-Beta: 1"], &[]);
    assert!(told.output.contains("beta"), "{}", told.output);
    let none = tidegate(&["explain", &file, "GET", "http://example.test/none"], &[]);
    assert!(none.output.contains("404"), "{}", none.output);
}

#[test]
fn schema_completions_and_version_are_printed() {
    let schema = tidegate(&["schema"], &[]);
    let schema: serde_json::Value = serde_json::from_str(&schema.output).expect("JSON Schema");
    assert!(schema["properties"]["routes"].is_object(), "{schema:#}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(tidegate(&["completions", shell], &[]).output.contains("tidegate"));
    }
    assert!(tidegate(&["--version"], &[]).output.starts_with("tidegate "));
    assert!(tidegate(&["--help"], &[]).output.contains("demo"));
}

#[test]
fn secrets_are_never_shown() {
    let folder = Folder::new();
    folder.write("secret", "hunter2-from-a-file");
    let yaml = "admin: { host: 127.0.0.1, port: 9900, token: \"${ADMIN_TOKEN}\" }\n\
                services: { app: { url: http://127.0.0.1:9001 } }\nroutes:\n- { match: { path: / }, service: app }\n";
    let good = folder.write("g.yaml", yaml).display().to_string();
    let env = [("ADMIN_TOKEN", "hunter2-from-the-environment")];
    let shown = tidegate(&["check", &good, "--show"], &env);
    assert_eq!(shown.code, 0, "{}", shown.errors);
    assert!(!(shown.output + &shown.errors).contains("hunter2"));
    let secret = folder.path().join("secret").display().to_string();
    let bad =
        folder.write("b.yaml", format!("server: {{ port: \"${{file:{secret}}}\" }}\n{yaml}")).display().to_string();
    let shown = tidegate(&["check", &bad], &env);
    assert_eq!(shown.code, 1);
    assert!(!(shown.output + &shown.errors).contains("hunter2"), "not in a problem's excerpt either");
}

#[test]
fn the_demo_serves_until_it_is_interrupted() {
    let mut demo = e2e::gateway::demo();
    for line in demo.curl_lines(5) {
        // Each as it stands, but for the streams that never end.
        let command = line.split(['#', '|']).next().unwrap_or_default().trim();
        let run =
            format!("{command} --silent --show-error --max-time 2 --output /dev/null --write-out '%{{response_code}}'");
        let told = std::process::Command::new("sh").arg("-c").arg(run).output().expect("sh runs");
        let status = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(status.starts_with(['2', '3']), "{command}: {status:?} {}", String::from_utf8_lossy(&told.stderr));
    }
    demo.signal("INT");
    assert_eq!(demo.exit().code(), Some(0));
}

#[test]
fn a_service_can_be_made_by_the_environment_alone() {
    let folder = Folder::new();
    let file = folder.write("g.yaml", "routes: [{ match: { path: / }, service: auth }]\n").display().to_string();
    assert_eq!(tidegate(&["check", &file], &[]).code, 1, "nobody made the service");
    assert_eq!(tidegate(&["check", &file], &[("SERVICES_AUTH_URL", "http://127.0.0.1:9")]).code, 0);
}
