//! Which service a request is for: the table of docs/config.md, and what it must not cost.

use serde_json::{Value, json};
use tests::{TestEndpoint, TestProxy, from_workspace, get, send};

/// The services of the page, and its rows: a request, and the service that it is for.
fn example() -> (String, Vec<[String; 2]>) {
    let page = std::fs::read_to_string(from_workspace("docs/config.md".as_ref())).unwrap();
    let routes = page.split("#### Routes\n").nth(1).unwrap();
    let routes = routes.split("\n#").next().unwrap();
    let services = routes.split("```").nth(1).unwrap();
    let services = services.strip_prefix("toml\n").unwrap();
    // Each service says who it is.
    let services = services
        .lines()
        .map(|line| match line.strip_prefix("name = ") {
            Some(name) => format!("{line}\nrespond = {{ body = {name} }}\n"),
            None => format!("{line}\n"),
        });
    let rows = routes.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        let mut cell = || cells.next().unwrap().trim().to_owned();
        [cell(), cell().trim_matches('`').to_owned()]
    });
    (services.collect(), rows.collect())
}

#[tokio::test]
async fn every_request_of_the_example_gets_the_service_that_the_page_says() {
    let (services, rows) = example();
    assert!(rows.len() >= 15, "{rows:?}");
    let proxy = TestProxy::with_config(&services).await;
    for [request, service] in rows {
        let mut texts = request.split('`').skip(1).step_by(2);
        let (method, target) = texts.next().unwrap().split_once(' ').unwrap();
        let (host, path) = target.split_at(target.find('/').unwrap());
        let field = texts.next().map(|field| field.split_once(": ").unwrap());
        let mut fields = vec![("host", host)];
        fields.extend(field);
        let reply = send(proxy.address, method, path, &fields, "").await;
        assert_eq!(reply.body, service, "{request}");
    }
}

#[tokio::test]
async fn routes_are_set_by_the_admin_api_shown_kept_and_told_apart() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let mut proxy = TestProxy::start().await;
    let address = proxy.address;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1.0.0"}]);
    let with = |more: Value| {
        let mut service =
            json!({"endpoints": endpoints, "hosts": ["~(?<tenant>[a-z]+)\\.a\\.test"]});
        for (key, value) in more.as_object().unwrap() {
            service[key] = value.clone();
        }
        service
    };
    let item = json!({
        "path": {"regex": "/items/(?<id>[^/]+)"},
        "when": {"methods": ["GET"], "query": {"q": {"regex": "[0-9]+"}}},
        "rewrite": {"path": "/v2/$match_tenant/$match_id"},
        "headers": {"response": {"set": {"x-of": "$match_tenant/$match_id"}}},
    });
    proxy
        .must("PUT", "/v1/services/item", with(item.clone()))
        .await;
    let view = proxy.must("GET", "/v1/services/item", Value::Null).await;
    assert_eq!(
        (&view["path"], &view["when"]),
        (&item["path"], &item["when"])
    );
    assert_eq!(view["hosts"], json!(["~(?<tenant>[a-z]+)\\.a\\.test"]));
    let request = async |path: &str| {
        let reply = send(address, "GET", path, &[("host", "Blue.a.test")], "").await;
        (reply.status.as_u16(), reply.header("x-of").to_owned())
    };
    assert_eq!(request("/items/12?q=5").await, (200, "blue/12".into()));
    assert_eq!(request("/items/12?q=x").await, (404, String::new()));
    assert_eq!(request("/items/12/13?q=5").await, (404, String::new()));
    assert_eq!(request("/items/caf\u{e9}?q=5").await.1, "blue/caf%C3%A9");

    // The same but for its method is another route, and the same again is not.
    let put =
        json!({"path": item["path"], "when": {"methods": ["PUT"], "query": item["when"]["query"]}});
    proxy
        .must("PUT", "/v1/services/put", with(put.clone()))
        .await;
    let again = proxy.call("PUT", "/v1/services/again", with(put)).await;
    assert_eq!(again.status, 409, "{again:?}");
    let message = again.json()["error"]["message"].to_string();
    assert!(
        message.contains("path regex `/items/(?<id>[^/]+)`"),
        "{message}"
    );
    let wrong = json!({"path": {"regex": "/items/("}});
    let wrong = proxy.call("PUT", "/v1/services/wrong", with(wrong)).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["error"]["field"]),
        (400, &json!("path.regex"))
    );

    let before = proxy.upgrade().await;
    assert_eq!(request("/items/12?q=5").await, (200, "blue/12".into()));
    assert_eq!(before.finished().await.code, Some(0));
    let proxy = proxy.restart_after_kill("").await;
    let fields = [("host", "red.a.test")];
    let reply = send(proxy.address, "GET", "/items/9?q=1", &fields, "").await;
    assert_eq!(reply.header("x-of"), "red/9");
}

#[tokio::test]
async fn a_path_made_for_an_expression_takes_no_time() {
    let proxy = TestProxy::with_config(
        r#"
        [[services]]
        name = "slow"
        path = { regex = "/(a+)+(b|c)*d" }
        respond = { body = "slow" }

        [[services]]
        name = "rest"
        respond = { body = "rest" }
        "#,
    )
    .await;
    let path = format!("/{}", "a".repeat(15_000));
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(get(proxy.address, &path).await.body, "rest");
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(get(proxy.address, &format!("{path}d")).await.body, "slow");
}
