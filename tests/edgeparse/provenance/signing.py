"""Sign pictures with a throw-away certificate authority."""

from __future__ import annotations

import datetime
import io
import json
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DST = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True)
class Credential:
    """A signing chain, its private key and its root, all as PEM."""

    chain: str
    key: bytes
    root: str


def credential(*, seconds: float = 86_400 * 300) -> Credential:
    """Make a root and a signing certificate that is valid for some seconds from now."""
    now = datetime.datetime.now(datetime.UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("Throw-away Root"), _name("Throw-away Signer")
    root = (
        x509.CertificateBuilder()
        .subject_name(root_name)
        .issuer_name(root_name)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=900))
        .not_valid_after(now + datetime.timedelta(days=900))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(seconds=seconds))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    root_pem = root.public_bytes(pem).decode()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Credential(leaf.public_bytes(pem).decode() + root_pem, secret, root_pem)


def sign(picture: bytes, mime: str, actions: list[dict[str, Any]], signer: Credential) -> bytes:
    """Return the picture with content credentials that list the actions."""
    import c2pa

    manifest = {
        "claim_generator_info": [{"name": "Throw-away Camera", "version": "1"}],
        "title": "picture",
        "format": mime,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
    }
    info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signer.chain.encode(), signer.key, None)
    # The signer checks its own work; an expired certificate would stop it there.
    settings = {"verify": {"verify_after_sign": False, "verify_trust": False}}
    out = io.BytesIO()
    context = c2pa.Context.from_dict(settings)
    with c2pa.Signer.from_info(info) as own, c2pa.Builder(json.dumps(manifest), context=context) as builder:
        builder.sign(own, mime, io.BytesIO(picture), out)
    return out.getvalue()


def created(code: str, agent: str = "") -> list[dict[str, Any]]:
    """One action c2pa.created with a source type."""
    action = {"action": "c2pa.created", "digitalSourceType": DST + code}
    return [{**action, "softwareAgent": agent}] if agent else [action]


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Throw-away"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )
