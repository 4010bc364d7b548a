//! Searches and lists of tags.

use kleene_doors::distribution::{Distribution, DistributionError};

use crate::common::{Answer, Room, Server, at};

#[test]
fn registries_with_an_index_are_asked_for_it() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Answer::ok("{}"),
        "/v1/search?q=web%20server&n=25" => Answer::ok(
            r#"{"num_results":2,"results":[
              {"name":"nginx","description":"Official\nbuild","star_count":20000,"is_official":true,"is_automated":false},
              {"name":"BAD NAME","description":null,"star_count":-1,"is_official":false}]}"#,
        ),
        _ => Answer::not_found(),
    });
    let registry = at(server.address).registry;
    let found = Room::new()
        .oci
        .search(&registry, "web server", 25, None)
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, format!("{registry}/nginx"));
    assert_eq!(found[0].description, "Official build");
    assert_eq!((found[0].stars, found[0].official), (20_000, true));
}

#[test]
fn of_others_the_catalog_is_searched_page_by_page() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Answer::ok("{}"),
        "/v2/_catalog?n=1000" => Answer::ok(r#"{"repositories":["team/web","x"]}"#)
            .header("Link", r#"</v2/_catalog?n=1000&last=x>; rel="next""#),
        "/v2/_catalog?n=1000&last=x" => Answer::ok(r#"{"repositories":["team/webapp","web","y"]}"#),
        _ => Answer::not_found(),
    });
    let registry = at(server.address).registry;
    let room = Room::new();
    let names = |limit| {
        let found = room.oci.search(&registry, "WEB", limit, None).unwrap();
        found
            .into_iter()
            .map(|result| result.name.replace(&format!("{registry}/"), ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(10), ["team/web", "team/webapp", "web"]);
    assert_eq!(names(2), ["team/web", "team/webapp"]);
    assert_eq!(names(1), ["team/web"]);
}

#[test]
fn who_can_t_search_says_so() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Answer::ok("{}"),
        _ => Answer::not_found(),
    });
    let registry = at(server.address).registry;
    let error = Room::new().oci.search(&registry, "x", 1, None).unwrap_err();
    assert!(
        matches!(error, DistributionError::Unsupported(_)),
        "{error:?}"
    );
}

#[test]
fn tags_come_in_pages() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Answer::ok("{}"),
        "/v2/team/app/tags/list?n=1000" => Answer::ok(r#"{"name":"team/app","tags":["1","2"]}"#)
            .header(
                "Link",
                r#"</v2/team/app/tags/list?n=1000&last=2>; rel="next""#,
            ),
        "/v2/team/app/tags/list?n=1000&last=2" => {
            Answer::ok(r#"{"name":"team/app","tags":["latest","not a tag"]}"#)
        }
        "/v2/team/none/tags/list?n=1000" => Answer::ok(r#"{"name":"team/none","tags":null}"#),
        _ => Answer::not_found(),
    });
    let room = Room::new();
    let tags = |name: &str| {
        room.oci
            .tags(&format!("{}/{name}", server.address).parse().unwrap(), None)
    };
    assert_eq!(tags("team/app").unwrap(), ["1", "2", "latest"]);
    assert_eq!(tags("team/none").unwrap(), [] as [&str; 0]);
    let error = tags("team/missing").unwrap_err();
    assert!(matches!(error, DistributionError::NotFound(_)), "{error:?}");
}

#[test]
fn pages_in_a_circle_end() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Answer::ok("{}"),
        _ => Answer::ok(r#"{"tags":["1"]}"#)
            .header("Link", &format!("<{}>; rel=\"next\"", request.path)),
    });
    let tags = Room::new().oci.tags(&at(server.address), None).unwrap();
    assert_eq!(tags.len(), 100);
}
