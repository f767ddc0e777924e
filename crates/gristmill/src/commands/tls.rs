//! What commands need to speak to a server at `https`.

use std::path::PathBuf;

use gristmill_client::{ClientIdentity, ClientTls};

/// How a server at https is trusted, and what is shown to it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// For a server at https: a PEM file of authorities to trust beside the system's
    #[arg(long, global = true, value_name = "FILE", env = "GRISTMILL_CA")]
    ca: Option<PathBuf>,
    /// For a server that asks for one: a certificate to show, a PEM file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "GRISTMILL_CERTIFICATE",
        requires = "certificate_key"
    )]
    certificate: Option<PathBuf>,
    /// The private key of that certificate, a PEM file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "GRISTMILL_CERTIFICATE_KEY",
        requires = "certificate"
    )]
    certificate_key: Option<PathBuf>,
}

impl TlsArgs {
    /// As the client takes it.
    pub(crate) fn into_client(self) -> ClientTls {
        let identity = self.certificate.zip(self.certificate_key);
        let identity = identity.map(|(certificate, key)| ClientIdentity { certificate, key });
        ClientTls { ca: self.ca, identity }
    }
}
