//! Talks to registries over HTTP (distribution specification).

mod access;
mod agent;
mod challenge;
mod endpoint;
mod reply;
mod session;
mod token;
mod url;

pub(crate) use self::access::Access;
pub(crate) use self::endpoint::{Endpoint, Schemes};
pub(crate) use self::reply::{body, content_range, header, of_io as broken, refusal, small_body};
pub(crate) use self::session::{Ask, Payload, Session};
pub(crate) use self::token::Tokens;
pub(crate) use self::url::{next_page, query};
