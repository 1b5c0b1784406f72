//! Keys that sign service account tokens as an API server does, and as it never would.
//!
//! Kubernetes signs with `RS256`, `ES256`, `ES384` and `ES512`
//! (`signerFromPrivateKey` in k8s.io/kubernetes/pkg/serviceaccount).

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// What an API server may sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of 2048 bits, `PKCS#1` 1.5; what most clusters have.
    Rs256,
    /// P-256.
    Es256,
    /// P-384.
    Es384,
    /// P-521.
    Es512,
}

impl Algorithm {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }
}

/// A private key, and the id under which its public half is published.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    pair: Pair,
}

#[derive(Clone)]
enum Pair {
    Rsa(Arc<RsaKeyPair>),
    Ec(&'static str, Arc<EcdsaKeyPair>),
}

impl SigningKey {
    /// A new key, whose id is made of it.
    pub fn generate(algorithm: Algorithm) -> Self {
        let ec = |curve, signing: &'static EcdsaSigningAlgorithm| {
            let pair = EcdsaKeyPair::generate(signing).expect("there is entropy");
            Pair::Ec(curve, Arc::new(pair))
        };
        let pair = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("there is entropy");
                Pair::Rsa(Arc::new(pair))
            }
            Algorithm::Es256 => ec("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
        };
        let mut key = Self {
            kid: String::new(),
            algorithm,
            pair,
        };
        let hash = digest::digest(&digest::SHA256, key.public());
        key.kid = URL_SAFE_NO_PAD.encode(hash);
        key
    }

    /// An RSA key that this process makes once: it takes long.
    pub fn shared() -> Self {
        static KEY: OnceLock<SigningKey> = OnceLock::new();
        KEY.get_or_init(|| Self::generate(Algorithm::Rs256)).clone()
    }

    /// The same key under another id.
    #[must_use]
    pub fn named(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// The id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half: DER for RSA, a point for the others.
    pub fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(_, pair) => pair.public_key().as_ref(),
        }
    }

    /// The public half as the API server publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({
                    "kty": "RSA",
                    "n": URL_SAFE_NO_PAD.encode(public.n),
                    "e": URL_SAFE_NO_PAD.encode(public.e),
                })
            }
            Pair::Ec(curve, _) => {
                // 4, which says that the point is not compressed, x and y.
                let (x, y) = self.public()[1..].split_at(self.public().len() / 2);
                json!({
                    "kty": "EC",
                    "crv": curve,
                    "x": URL_SAFE_NO_PAD.encode(x),
                    "y": URL_SAFE_NO_PAD.encode(y),
                })
            }
        };
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm.name().into();
        jwk["kid"] = self.kid.clone().into();
        jwk
    }

    /// The header of the tokens that it signs.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm.name(), "kid": self.kid})
    }

    /// A token with this header, whatever it says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token of texts that need not be JSON.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        assemble(header, claims, |message| match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                );
                signed.expect("the key is large enough");
                signature
            }
            Pair::Ec(_, pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.expect("there is entropy").as_ref().to_vec()
            }
        })
    }
}

/// A token that is "signed" with a secret, by HMAC and SHA-256.
pub fn sign_with_secret(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    assemble(&header.to_string(), &claims.to_string(), |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A token without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    assemble(&header.to_string(), &claims.to_string(), |_| Vec::new())
}

fn assemble(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(token.as_bytes());
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    token
}
