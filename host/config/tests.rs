//! Sources and their order, and how each mistake is named.

use super::*;

fn load(
    toml: &str,
    environment: &[(&str, &str)],
    flags: Vec<(&'static str, Value)>,
) -> Result<Settings, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), toml).expect("it is written");
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(Some(file.path()), environment, flags)
        .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
}

#[test]
fn later_sources_win() {
    let toml = "data = 'file'\n[server]\nlisten = '127.0.0.1:1'\nallowed_hosts = ['a.example']\n[log]\nlevel = 'warn'";
    let environment = [
        ("EVERFOLD_SERVER_LISTEN", "127.0.0.1:2"),
        ("EVERFOLD_TOKEN", "1234"),
        ("EVERFOLD_LIMITS_PAYLOAD_BYTES", "77"),
        ("EVERFOLD_LOG", "debug"),
        ("EVERFOLD_URL", "http://elsewhere"),
        ("EVERFOLD_METRICS_LISTEN", "127.0.0.1:2112"),
        ("EVERFOLD_COMPONENTS", "drop/here"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("HOME", "/"),
    ];
    let settings = load(toml, &environment, vec![("log.level", Value::from("trace"))]).expect("valid");
    assert_eq!(settings.data, PathBuf::from("file"));
    assert_eq!(settings.server.listen.port(), 2);
    assert_eq!(settings.server.token.map(|token| token.reveal().to_owned()), Some("1234".to_owned()));
    assert_eq!(settings.server.allowed_hosts, ["a.example".parse().expect("a name")]);
    assert_eq!(settings.components, Some(PathBuf::from("drop/here")));
    assert_eq!(settings.limits.payload_bytes, 77);
    assert_eq!(settings.limits.history_events, 51_200);
    assert_eq!(settings.log.level, "trace");
    assert_eq!(settings.metrics.listen.map(|listen| listen.port()), Some(2112));
    assert_eq!(settings.telemetry.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    let defaults = load("", &[], Vec::new()).expect("nothing is needed");
    assert_eq!(defaults.server.listen.to_string(), "127.0.0.1:8233");
    let empty = load("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], Vec::new()).expect("valid");
    assert_eq!(empty.telemetry.otlp_endpoint, None, "an empty variable is as good as none");
}

#[test]
fn what_is_wrong_is_named() {
    let mut lines = String::new();
    for (toml, environment) in [
        ("colour = 1", vec![]),
        ("[server]\nport = 1", vec![]),
        ("[server]\nlisten = 'here'", vec![]),
        ("[limits]\npayload_bytes = 'much'", vec![]),
        ("[server]\nallowed_hosts = ['a b']", vec![]),
        ("[log]\nformat = 'xml'", vec![]),
        ("store = 'mysql://x'", vec![]),
        ("[retention]\nclosed_days = 0", vec![]),
        ("[limits]\nhistory_events = 0", vec![]),
        ("", vec![("EVERFOLD_LIMITS_CONNECTIONS", "0")]),
        ("", vec![("EVERFOLD_ACTIVITIES_MAX_CONCURRENT", "0")]),
        ("", vec![("EVERFOLD_RETENTION_CLOSED_DAYS", "week")]),
        ("data", vec![]),
        ("", vec![("EVERFOLD_COLOUR", "1")]),
        ("", vec![("EVERFOLD_SERVER_PORT", "1")]),
        ("", vec![("EVERFOLD_TOKEN", "two words")]),
    ] {
        let error = load(toml, &environment, Vec::new()).expect_err("it is wrong");
        lines += &format!("{error}\n");
    }
    insta::assert_snapshot!(lines, @r#"
    FILE: there is no setting `colour`; here are data, store, components, server, log, metrics, telemetry, limits, orders, activities, retention
    FILE: there is no setting `server.port`; here are listen, token, allowed_hosts
    FILE: server.listen: invalid socket address syntax
    FILE: limits.payload_bytes: invalid type: found string "much", expected usize
    FILE: server.allowed_hosts.0: `a b` is not a host name, with or without a port
    FILE: log.format: unknown variant: found `xml`, expected ``text` or `json``
    FILE: store: `mysql://x` is no store that this binary has; it has sqlite:FOLDER
    FILE: retention.closed_days: `0` is not a positive number of days; leave the setting out to keep runs for ever
    FILE: limits.history_events: `0` allows nothing; it must be at least 1
    environment (EVERFOLD_…): limits.connections: `0` allows nothing; it must be at least 1
    environment (EVERFOLD_…): activities.max_concurrent: `0` allows nothing; it must be at least 1
    environment (EVERFOLD_…): retention.closed_days: invalid type: found string "week", expected f64
    FILE: TOML parse error at line 1, column 5
      |
    1 | data
      |     ^
    expected `.`, `=`
    environment (EVERFOLD_…): there is no setting `colour`; here are data, store, components, server, log, metrics, telemetry, limits, orders, activities, retention
    environment (EVERFOLD_…): there is no setting `server.port`; here are listen, token, allowed_hosts
    environment (EVERFOLD_…): server.token: a token is one or more visible ASCII characters without spaces
    "#);
}
