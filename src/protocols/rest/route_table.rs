//! Finds the route of a path: a tree of the routes' segments.

use std::borrow::Cow;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::broker::Failure;

/// The most parameters in one path.
const MAX_PARAMS: usize = 2;

/// Routes by path and method. `T` names a route.
pub struct RouteTable<T> {
    root: Node<T>,
}

struct Node<T> {
    literals: Vec<(&'static str, Self)>,
    parameter: Option<(&'static str, Box<Self>)>,
    methods: Vec<(Method, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literals: Vec::new(),
            parameter: None,
            methods: Vec::new(),
        }
    }
}

/// The parameters of a path: where each one's segment is in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Params([Option<Param>; MAX_PARAMS]);

#[derive(Debug, Clone, Copy)]
struct Param {
    name: &'static str,
    from: usize,
    to: usize,
}

impl Params {
    fn push(&mut self, param: Param) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(param);
        }
    }

    /// The parameters of this URI's path, in which they were found.
    ///
    /// # Errors
    /// `invalid_request` when one is not UTF-8.
    pub fn of(self, uri: &Uri) -> Result<PathParams, Failure> {
        for param in self.0.iter().flatten() {
            let text = percent_decode_str(param.segment(uri)).decode_utf8();
            text.map_err(|_| Failure::invalid("path", "UTF-8 after percent-decoding"))?;
        }
        Ok(PathParams {
            uri: uri.clone(),
            params: self,
        })
    }
}

impl Param {
    fn segment(self, uri: &Uri) -> &str {
        uri.path().get(self.from..self.to).unwrap_or_default()
    }
}

/// The parameters of a path by name.
#[derive(Debug)]
pub struct PathParams {
    uri: Uri,
    params: Params,
}

impl PathParams {
    /// The parameter of this name, percent-decoded; empty if the path has none.
    pub fn get(&self, name: &str) -> Cow<'_, str> {
        let param = self.params.0.iter().flatten().find(|param| param.name == name);
        // `Params::of` found that it is UTF-8.
        param.map_or(Cow::Borrowed(""), |param| {
            percent_decode_str(param.segment(&self.uri)).decode_utf8_lossy()
        })
    }
}

impl<T: Copy> RouteTable<T> {
    /// The table of these routes, with paths as in the OpenAPI document.
    pub fn new(routes: impl IntoIterator<Item = (Method, &'static str, T)>) -> Self {
        let mut root = Node::default();
        for (method, path, route) in routes {
            let mut node = &mut root;
            for segment in path.split('/').skip(1) {
                node = match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) => &mut node.parameter.get_or_insert_with(|| (name, Box::default())).1,
                    None => node.literal(segment),
                };
            }
            node.methods.push((method, route));
        }
        Self { root }
    }

    /// The methods of a path with their routes, and its parameters. A parameter is never empty.
    pub fn find(&self, path: &str) -> Option<(&[(Method, T)], Params)> {
        let mut node = &self.root;
        let mut params = Params::default();
        let mut from = path.strip_prefix('/').map(|_| 1)?;
        for segment in path.get(1..)?.split('/') {
            let to = from + segment.len();
            node = match node.literals.iter().find(|(literal, _)| *literal == segment) {
                Some((_, next)) => next,
                None => {
                    let (name, next) = node.parameter.as_ref().filter(|_| !segment.is_empty())?;
                    params.push(Param { name, from, to });
                    next
                }
            };
            from = to + 1;
        }
        (!node.methods.is_empty()).then_some((&node.methods, params))
    }
}

impl<T> Node<T> {
    fn literal(&mut self, segment: &'static str) -> &mut Self {
        let at = match self.literals.iter().position(|(literal, _)| *literal == segment) {
            Some(at) => at,
            None => {
                self.literals.push((segment, Self::default()));
                self.literals.len() - 1
            }
        };
        &mut self.literals[at].1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn table() -> RouteTable<u8> {
        RouteTable::new([
            (Method::GET, "/keys", 1),
            (Method::POST, "/keys", 2),
            (Method::GET, "/keys/{key}", 3),
            (Method::POST, "/keys/{key}/wrap", 4),
            (Method::DELETE, "/people/{person}/tokens/{token}", 5),
        ])
    }

    #[test]
    fn a_path_leads_to_its_routes_and_parameters() {
        let table = table();
        let routes = |path| {
            table
                .find(path)
                .map(|(methods, _)| methods.iter().map(|(_, route)| *route).collect::<Vec<_>>())
        };
        assert_eq!(routes("/keys"), Some(vec![1, 2]));
        assert_eq!(routes("/keys/a"), Some(vec![3]));
        assert_eq!(routes("/keys/a/wrap"), Some(vec![4]));
        for absent in [
            "",
            "/",
            "*",
            "keys",
            "/KEYS",
            "/keys/",
            "/keys//wrap",
            "//keys",
            "/keys/a/wrap/",
            "/keys/a/b",
            "/people",
            "/people/a/tokens",
        ] {
            assert_eq!(routes(absent), None, "{absent}");
        }
    }

    #[test]
    fn parameters_are_decoded_segment_by_segment() {
        let table = table();
        let params = |path: &'static str| table.find(path).unwrap().1.of(&Uri::from_static(path));
        let both = params("/people/%6frders/tokens/a%2Fb").unwrap();
        assert_eq!(
            (&*both.get("person"), &*both.get("token"), &*both.get("key")),
            ("orders", "a/b", "")
        );
        assert_eq!(params("/keys/orders%zz").unwrap().get("key"), "orders%zz");
        assert!(params("/keys/%ff").is_err());
    }
}
