//! Who answers what: calls go to the proxy, reserved paths to dashboard, API and operations.

use crate::{
    api,
    config::Config,
    proxy::{Proxy, ProxyError},
    server::{Answer, Wire},
};
use arc_swap::ArcSwap;
use axum::body::Body;
use futures_util::future::Either;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::{future::Future, sync::Arc};
use tower::ServiceExt;

/// The listener that takes calls.
#[derive(Clone, Debug)]
pub struct Door {
    /// Takes the calls.
    pub proxy: Arc<Proxy>,
    /// Which origins may call.
    pub config: Arc<ArcSwap<Config>>,
    /// Takes reserved paths, where they have no listener of their own.
    pub router: Option<axum::Router>,
}

impl Answer for Door {
    fn answer(
        &self,
        request: Request<Incoming>,
        wire: Wire,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
        if request.method() == Method::CONNECT {
            let refusal = ProxyError::bad_request(
                "calltap is no forward proxy; make it the base URL of the client instead",
            );
            return Either::Left(self.proxy.forward(request, wire, Some(refusal)));
        }
        if let Some(router) = &self.router
            && api::is_reserved(request.uri().path())
        {
            return Either::Right(Box::pin(call(router.clone(), request)));
        }
        let foreign = api::foreign_origin(request.headers(), &call_doors(&self.config.load()));
        let refusal = foreign.then(|| {
            ProxyError::forbidden(
                "the call comes from a web page of another origin; \
                 name it in server.allowed_origins to allow it",
            )
        });
        Either::Left(self.proxy.forward(request, wire, refusal))
    }
}

/// The listener that takes no calls.
#[derive(Clone, Debug)]
pub struct AdminDoor(pub axum::Router);

impl Answer for AdminDoor {
    fn answer(
        &self,
        request: Request<Incoming>,
        _wire: Wire,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
        Box::pin(call(self.0.clone(), request))
    }
}

async fn call(router: axum::Router, request: Request<Incoming>) -> Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The doors of calls, whose listener may be another one.
fn call_doors(config: &Config) -> api::Doors {
    api::Doors { loopback: config.server.listen.ip().is_loopback(), ..doors(config) }
}

/// Who may ask for what.
pub fn doors(config: &Config) -> api::Doors {
    let listen = config.server.admin_listen.unwrap_or(config.server.listen);
    api::Doors {
        admin_token: config.auth.admin_token.clone(),
        loopback: listen.ip().is_loopback(),
        allowed_origins: config.server.allowed_origins.clone(),
    }
}
