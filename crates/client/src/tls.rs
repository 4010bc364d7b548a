//! The client's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::TlsError;

/// How an encrypted connection is made. Without options the daemon's certificate is not verified,
/// as daemons usually show one that they signed themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Verify the daemon's certificate, by the system's authorities unless `cacert` is set.
    pub verify: bool,
    /// Certificate that the client shows (PEM); may hold the key too.
    pub cert: Option<PathBuf>,
    /// Key of `cert` (PEM).
    pub key: Option<PathBuf>,
    /// Trust only this authority (PEM). Implies `verify`.
    pub cacert: Option<PathBuf>,
}

impl TlsOptions {
    /// The configuration for rustls.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = if self.verify || self.cacert.is_some() {
            builder.with_root_certificates(self.authorities()?)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        };
        match (&self.cert, &self.key) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (None, Some(_)) => Err(TlsError::KeyWithoutCertificate),
            (Some(cert), key) => builder
                .with_client_auth_cert(
                    certificates(cert, "a certificate")?,
                    private_key(key.as_ref().unwrap_or(cert))?,
                )
                .map_err(TlsError::Setup),
        }
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if let Some(path) = &self.cacert {
            for certificate in certificates(path, "a CA certificate")? {
                store.add(certificate).map_err(TlsError::Setup)?;
            }
        } else {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if store.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
        Ok(store)
    }
}

fn unreadable<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl Fn(rustls::pki_types::pem::Error) -> TlsError + 'a {
    move |error| TlsError::File {
        what,
        path: path.to_owned(),
        source: Box::new(error),
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(unreadable(what, path))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable(what, path))?;
    if certificates.is_empty() {
        return Err(unreadable(what, path)(
            rustls::pki_types::pem::Error::NoItemsFound,
        ));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(unreadable("a private key", path))
}

/// Accepts every certificate; the handshake itself must still be signed by its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
