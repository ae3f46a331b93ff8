//! TLS: the certificates that are trusted and shown, and typed errors for what is wrong with a certificate.

use std::{fmt, io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use terrace_tier::{Error, FindingTopic, Result};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::findings::config_error;

/// The certificates of the user, in PEM. The `Debug` output shows none of them.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    /// The authorities that are trusted in place of the system's.
    pub(crate) ca: Option<Vec<u8>>,
    /// The certificate that is shown to the server, and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("ca", &self.ca.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

impl Certificates {
    pub(crate) fn is_empty(&self) -> bool {
        self.ca.is_none() && self.client.is_none()
    }
}

/// What makes a TLS stream out of a TCP stream.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    shows_certificate: bool,
}

impl Tls {
    /// # Errors
    /// [`ErrorKind::Config`](terrace_tier::ErrorKind::Config) for certificates or keys that cannot be read.
    pub(crate) fn new(certificates: &Certificates) -> Result<Self> {
        let roots = match &certificates.ca {
            Some(pem) => roots_in(pem)?,
            None => system_roots(),
        };
        // With a provider of its own, no handle depends on what the program has installed.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| unusable("the TLS library"))?
            .with_root_certificates(roots);
        let config = match &certificates.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates_in(certificate).ok_or_else(|| unusable("the client certificate"))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| unusable("the key of the client certificate"))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|_| unusable("the client certificate, or its key is another one,"))?
            }
        };
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, shows_certificate: certificates.client.is_some() })
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }

    /// The error for a certificate that one side refuses; `None` where something else went wrong.
    pub(super) fn certificate_error(&self, cause: &io::Error) -> Option<Error> {
        let (cause, cure) = match tls_error(cause)? {
            TlsError::InvalidCertificate(certificate) => server_certificate(certificate),
            TlsError::AlertReceived(alert) => self.refused_by_server(*alert)?,
            _ => return None,
        };
        Some(config_error(FindingTopic::Certificate, cause, cure))
    }

    fn refused_by_server(&self, alert: AlertDescription) -> Option<(String, &'static str)> {
        use AlertDescription::{
            AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
            CertificateUnknown, DecryptError, HandshakeFailure, NoCertificate, UnknownCA,
            UnsupportedCertificate,
        };
        let is_about_certificates = matches!(
            alert,
            AccessDenied
                | BadCertificate
                | CertificateExpired
                | CertificateRequired
                | CertificateRevoked
                | CertificateUnknown
                | DecryptError
                | NoCertificate
                | UnknownCA
                | UnsupportedCertificate
        );
        match (self.shows_certificate, alert) {
            // Before TLS 1.3 a server that misses the certificate says no more than that the handshake failed.
            (false, HandshakeFailure) => {}
            _ if is_about_certificates => {}
            _ => return None,
        }
        Some(match self.shows_certificate {
            true => (
                format!("the server refuses the client certificate ({alert:?})"),
                "show a certificate of an authority that the server trusts, and that has not expired",
            ),
            false => (
                "the server wants a client certificate".to_owned(),
                "give it by tls_client_certificate(certificate, key)",
            ),
        })
    }
}

/// What the TLS library found wrong, if it was the library.
pub(super) fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn server_certificate(error: &CertificateError) -> (String, &'static str) {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => (
            "the certificate of the server has expired".to_owned(),
            "renew it, and check the clock of this host",
        ),
        NotValidYet | NotValidYetContext { .. } => {
            ("the certificate of the server is not valid yet".to_owned(), "check the clock of this host")
        }
        NotValidForName | NotValidForNameContext { .. } => (
            "the certificate of the server is for another host name".to_owned(),
            "connect by a name that the certificate holds",
        ),
        // A certificate with the name of a trusted authority, which that authority did not sign.
        UnknownIssuer | BadSignature => (
            "the certificate of the server is signed by an authority that is not trusted".to_owned(),
            "give the authority by tls_ca(pem), or add it to the system's",
        ),
        other => (format!("the certificate of the server is not accepted ({other:?})"), "replace it"),
    }
}

fn certificates_in(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

fn roots_in(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(pem).ok_or_else(|| unusable("the certificate of the authority"))? {
        roots.add(certificate).map_err(|_| unusable("the certificate of the authority"))?;
    }
    Ok(roots)
}

/// The authorities that the system trusts. One that cannot be read is left out: if the server's is among those,
/// the handshake says that it is not trusted.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn unusable(what: &str) -> Error {
    config_error(FindingTopic::Certificate, format!("{what} cannot be used"), "give it in PEM form")
}

#[cfg(test)]
mod tests {
    use terrace_tier::ErrorKind;

    use super::*;

    #[test]
    fn certificates_that_cannot_be_read_are_config_errors_that_do_not_repeat_them() {
        let pem = b"-----BEGIN CERTIFICATE-----\nS3cret\n-----END CERTIFICATE-----\n".to_vec();
        for certificates in [
            Certificates { ca: Some(Vec::new()), client: None },
            Certificates { ca: Some(pem.clone()), client: None },
            Certificates { ca: None, client: Some((pem.clone(), pem.clone())) },
            Certificates { ca: None, client: Some((Vec::new(), b"S3cret".to_vec())) },
        ] {
            let error = Tls::new(&certificates).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert_eq!(error.finding().unwrap().topic(), FindingTopic::Certificate);
            assert!(!format!("{error} {error:?} {certificates:?}").contains("S3cret"));
        }
    }
}
