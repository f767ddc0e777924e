//! Which certificates are shown, and which are asked for.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use gristmill_server::{
    ClientAuth, ClientAuthority, GatewayTlsFiles, IdentityFiles, Role, ServerTlsFiles,
};
use serde::{Deserialize, Serialize};

use super::Settings;

/// `[server.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerTlsSettings {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
    pub(crate) http_client_auth: ClientAuthSetting,
    /// If nobody says so, they must as soon as an authority is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_client_auth: Option<ClientAuthSetting>,
}

/// `[gateway.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayTlsSettings {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) server_name: String,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuthSetting {
    /// They are not asked.
    None,
    /// They may.
    Optional,
    /// They must.
    Required,
}

impl Settings {
    /// The files that listeners need, if they speak TLS.
    pub(crate) fn server_tls(&self) -> Option<ServerTlsFiles> {
        let tls = &self.server.tls;
        let identity = identity(&tls.certificate, &tls.key)?;
        let clients = named(&tls.client_ca).map(|ca| ClientAuthority {
            ca,
            http: tls.http_client_auth.into(),
            grpc: tls.grpc_client_auth.unwrap_or(ClientAuthSetting::Required).into(),
        });
        Some(ServerTlsFiles { identity, clients })
    }

    /// The files that a gateway needs, if it reaches others under TLS.
    pub(crate) fn gateway_tls(&self) -> Option<GatewayTlsFiles> {
        if !self.roles().contains(&Role::Gateway) {
            return None;
        }
        let tls = &self.gateway.tls;
        Some(GatewayTlsFiles {
            ca: named(&tls.ca)?,
            identity: identity(&tls.certificate, &tls.key),
            server_name: Some(tls.server_name.clone()).filter(|name| !name.is_empty()),
        })
    }

    /// Makes sure that what belongs together is there together.
    pub(super) fn check_tls(&self) -> anyhow::Result<()> {
        let (server, gateway) = (&self.server.tls, &self.gateway.tls);
        for (section, certificate, key) in [
            ("server.tls", &server.certificate, &server.key),
            ("gateway.tls", &gateway.certificate, &gateway.key),
        ] {
            match (is_named(certificate), is_named(key)) {
                (true, false) => bail!("{section}.key: it is needed with {section}.certificate"),
                (false, true) => bail!("{section}.certificate: it is needed with {section}.key"),
                _ => {}
            }
        }
        ensure!(
            is_named(&server.certificate) || !is_named(&server.client_ca),
            "server.tls.client_ca: clients can only show certificates under TLS: set \
             server.tls.certificate and server.tls.key too"
        );
        let asks = |setting| setting != ClientAuthSetting::None;
        for (name, is_asked) in [
            ("http_client_auth", asks(server.http_client_auth)),
            ("grpc_client_auth", server.grpc_client_auth.is_some_and(asks)),
        ] {
            ensure!(
                is_named(&server.client_ca) || !is_asked,
                "server.tls.client_ca: server.tls.{name} asks for certificates: name the file of the \
                 authority that they come from"
            );
        }
        ensure!(
            !is_named(&server.client_ca)
                || asks(server.http_client_auth)
                || server.grpc_client_auth.is_none_or(asks),
            "server.tls.client_ca: nobody is asked for a certificate: leave it out, or set \
             server.tls.http_client_auth or server.tls.grpc_client_auth"
        );
        ensure!(
            is_named(&gateway.ca) || !is_named(&gateway.certificate),
            "gateway.tls.certificate: it is only shown to processes that gateway.tls.ca vouches for: \
             set that too"
        );
        ensure!(
            is_named(&gateway.ca) || gateway.server_name.is_empty(),
            "gateway.tls.server_name: it is only asked of processes that gateway.tls.ca vouches for: set \
             that too"
        );
        let targets = self.gateway.ingest.iter().chain(&self.gateway.query);
        let secure = targets.into_iter().find(|target| target.0.is_secure());
        if let Some(target) = secure.filter(|_| !is_named(&gateway.ca)) {
            bail!(
                "gateway.tls.ca: {target} is reached under TLS: name the file of the authority that \
                 its certificate comes from"
            );
        }
        Ok(())
    }
}

impl From<ClientAuthSetting> for ClientAuth {
    fn from(setting: ClientAuthSetting) -> Self {
        match setting {
            ClientAuthSetting::None => ClientAuth::None,
            ClientAuthSetting::Optional => ClientAuth::Optional,
            ClientAuthSetting::Required => ClientAuth::Required,
        }
    }
}

fn identity(certificate: &Path, key: &Path) -> Option<IdentityFiles> {
    Some(IdentityFiles { certificate: named(certificate)?, key: named(key)? })
}

fn named(path: &Path) -> Option<PathBuf> {
    is_named(path).then(|| path.to_owned())
}

/// In settings, no file is an empty name.
fn is_named(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{environment, error_of, from_file};
    use super::*;

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        for (text, expected) in [
            ("[server.tls]\ncertificate = \"c\"", "server.tls.key: it is needed"),
            ("[server.tls]\nkey = \"k\"", "server.tls.certificate: it is needed"),
            ("[server.tls]\nclient_ca = \"a\"", "server.tls.client_ca: clients can only"),
            ("[gateway.tls]\nca = \"a\"\nkey = \"k\"", "gateway.tls.certificate: it is needed"),
            (
                "[gateway.tls]\ncertificate = \"c\"\nkey = \"k\"",
                "gateway.tls.certificate: it is only",
            ),
            ("[gateway.tls]\nserver_name = \"a\"", "gateway.tls.server_name: it is only"),
            ("[gateway]\nquery = [\"https://a:1\"]", "gateway.tls.ca: https://a:1 is reached"),
            ("[server.tls]\nhttp_client_auth = \"maybe\"", "maybe"),
            (
                "[server.tls]\nhttp_client_auth = \"required\"",
                "server.tls.client_ca: server.tls.http_client_auth",
            ),
            (
                "[server.tls]\ngrpc_client_auth = \"optional\"",
                "server.tls.client_ca: server.tls.grpc_client_auth",
            ),
            (
                "[server.tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n\
                 grpc_client_auth = \"none\"",
                "server.tls.client_ca: nobody",
            ),
        ] {
            let error = error_of(text, &[]);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn grpc_clients_need_certificates_once_an_authority_is_named() {
        let (_dir, flags) = from_file(
            "roles = [\"gateway\"]\n\
             [server.tls]\ncertificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n\
             [gateway]\ningest = [\"https://a:1\"]\nquery = [\"https://a:1\"]\n\
             [gateway.tls]\nca = \"b\"\n",
        );
        let settings = Settings::load(&flags, &std::collections::HashMap::new()).unwrap();
        let clients = settings.server_tls().unwrap().clients.unwrap();
        assert_eq!((clients.http, clients.grpc), (ClientAuth::None, ClientAuth::Required));
        assert!(settings.gateway_tls().unwrap().identity.is_none());
        for (http, grpc, expected) in [
            ("none", "optional", (ClientAuth::None, ClientAuth::Optional)),
            ("required", "none", (ClientAuth::Required, ClientAuth::None)),
        ] {
            let variables = environment(&[
                ("GRISTMILL__SERVER__TLS__HTTP_CLIENT_AUTH", http),
                ("GRISTMILL__SERVER__TLS__GRPC_CLIENT_AUTH", grpc),
            ]);
            let settings = Settings::load(&flags, &variables).unwrap();
            let clients = settings.server_tls().unwrap().clients.unwrap();
            assert_eq!((clients.http, clients.grpc), expected);
        }
    }
}
