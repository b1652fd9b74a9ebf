//! From claims to an identity: which claim says what. A claim of a type that says nothing is as if it were not there.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tidegate_core::identity::Identity;

use crate::shared::json::Object;

/// Which claim says what. A name may be a path with dots, such as `realm_access.roles`; a claim whose own name has dots goes
/// before a path.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MappingFile {
    /// Who the caller is. By default `sub`.
    user: Option<String>,
    /// What they are: a list, or a text that is separated by spaces. By default `roles`.
    roles: Option<String>,
    /// What they may do: a list, or a text that is separated by spaces. By default `permissions`.
    permissions: Option<String>,
    /// What their token was issued for: a list, or a text that is separated by spaces. By default `scope`.
    scopes: Option<String>,
    /// Whose customer they are. By default `tenant_id`.
    tenant: Option<String>,
}

/// Which claim says what.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    user: String,
    roles: String,
    permissions: String,
    scopes: String,
    tenant: String,
}

impl From<MappingFile> for Mapping {
    fn from(file: MappingFile) -> Self {
        let or = |name: Option<String>, usual: &str| name.unwrap_or_else(|| usual.to_owned());
        Self {
            user: or(file.user, "sub"),
            roles: or(file.roles, "roles"),
            permissions: or(file.permissions, "permissions"),
            scopes: or(file.scopes, "scope"),
            tenant: or(file.tenant, "tenant_id"),
        }
    }
}

impl Mapping {
    /// Who it is that `claims` speak of, as the way called `way` proved until `expires`.
    pub(crate) fn identity(&self, way: &Arc<str>, claims: Object, expires: Option<Duration>) -> Identity {
        let text = |path: &str| find(&claims, path).and_then(as_text);
        let list = |path: &str| find(&claims, path).map(as_list).unwrap_or_default();
        Identity {
            way: Arc::clone(way),
            user: text(&self.user),
            roles: list(&self.roles),
            permissions: list(&self.permissions),
            scopes: list(&self.scopes),
            tenant: text(&self.tenant),
            expires,
            claims: Value::Object(claims),
            rate: None,
        }
    }
}

/// The value at a path: of all ways to read its dots, the one with the longest names.
fn find<'a>(claims: &'a Object, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(at, _)| {
        let (name, rest) = (path.get(..at)?, path.get(at + 1..)?);
        find(claims.get(name)?.as_object()?, rest)
    })
}

/// Many providers number their users.
fn as_text(value: &Value) -> Option<Arc<str>> {
    let number = || value.as_number().filter(|number| !number.is_f64()).map(|number| number.to_string().into());
    value.as_str().filter(|text| !text.is_empty()).map(Arc::from).or_else(number)
}

fn as_list(value: &Value) -> Vec<Arc<str>> {
    if let Some(text) = value.as_str() {
        return text.split(' ').filter(|one| !one.is_empty()).map(Arc::from).collect();
    }
    value.as_array().into_iter().flatten().filter_map(as_text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(mapping: MappingFile, claims: Value) -> Identity {
        let Value::Object(claims) = claims else { panic!("an object") };
        Mapping::from(mapping).identity(&"main".into(), claims, None)
    }

    fn texts(list: &[Arc<str>]) -> Vec<&str> {
        list.iter().map(|text| &**text).collect()
    }

    #[test]
    fn the_usual_claims_are_found_without_being_named() {
        let claims = json!({ "sub": "ann", "roles": ["admin", "dev"], "permissions": ["a:read"], "scope": "x  y", "tenant_id": 7 });
        let found = identity(MappingFile::default(), claims.clone());
        assert_eq!((found.user.as_deref(), found.tenant.as_deref()), (Some("ann"), Some("7")));
        assert_eq!(texts(&found.roles), ["admin", "dev"]);
        assert_eq!(texts(&found.permissions), ["a:read"]);
        assert_eq!(texts(&found.scopes), ["x", "y"]);
        assert_eq!((&*found.way, found.claims), ("main", claims));
    }

    #[test]
    fn a_path_goes_into_objects_and_a_name_with_dots_goes_before_it() {
        let roles = |path: &str, claims| {
            texts(&identity(MappingFile { roles: Some(path.to_owned()), ..MappingFile::default() }, claims).roles)
                .join(" ")
        };
        assert_eq!(roles("realm_access.roles", json!({ "realm_access": { "roles": ["a", "b"] } })), "a b");
        assert_eq!(roles("a.b", json!({ "a.b": ["exact"], "a": { "b": ["path"] } })), "exact");
        assert_eq!(roles("https://x.test/claims.roles", json!({ "https://x.test/claims": { "roles": "url" } })), "url");
        assert_eq!(roles("a.b.c", json!({ "a": { "b.c": "deep" } })), "deep");
        assert_eq!(roles("a.b.c", json!({ "a": { "b": "text" } })), "");
        assert_eq!(roles("..", json!({ "": { "": { "": "dots" } } })), "dots");
    }

    #[test]
    fn claims_of_an_unexpected_type_are_as_if_they_were_not_there() {
        for odd in [json!(null), json!(true), json!(1.5), json!({}), json!([]), json!([["a"], {}, null, true])] {
            let claims = json!({ "sub": odd, "roles": odd, "permissions": odd, "scope": odd, "tenant_id": odd });
            let found = identity(MappingFile::default(), claims.clone());
            assert_eq!(found, Identity { way: "main".into(), claims, ..Identity::default() });
        }
    }
}
