/** Certificates: which are trusted, and what is said of the others. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, test } from "node:test";
import tls from "node:tls";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { Client, TransportError, UntrustedCertificateError } from "../src/index.js";
import { makeCertificate } from "./certificate.js";
import { Gateway } from "./gateway.js";
import { KEY, Stub, TOKEN, answer } from "./stub.js";

const certificate = await makeCertificate({ after });

async function isUntrusted(call: Promise<unknown>, reason: RegExp): Promise<void> {
  await assert.rejects(call, (error: UntrustedCertificateError) => {
    assert.ok(error instanceof UntrustedCertificateError, String(error));
    assert.match(error.detail, reason);
    assert.match(error.whatToDo ?? "", /as ca/);
    assert.deepEqual([error.code, error.isRetryable, error.maybeExecuted], ["certificate_untrusted", false, false]);
    return true;
  });
}

test("a certificate that is not trusted", async (t) => {
  const stub = await Stub.start(t, certificate);
  stub.answers = [answer(200, KEY)];
  const client = (ca?: ConstructorParameters<typeof Client>[0]["ca"], address = stub.address) => new Client({ address, token: TOKEN, ca });
  await isUntrusted(client().getKey("orders"), /self-signed certificate/);
  for (const ca of [certificate.file, pathToFileURL(certificate.file), tls.createSecureContext({ ca: certificate.cert })]) {
    assert.equal((await client(ca).getKey("orders")).name, "orders");
  }
  await isUntrusted(client(certificate.file, `https://localhost:${stub.port}`).getKey("orders"), /localhost/);
  // Of another authority.
  const other = await makeCertificate(t);
  await isUntrusted(client(other.file).getKey("orders"), /certificate/);
  assert.equal(stub.requests.length, 3);
});

test("the environment does not end the check of certificates", async (t) => {
  const stub = await Stub.start(t, certificate);
  stub.answers = [answer(200, KEY)];
  const program = `
    import { Client } from "${new URL("../src/index.js", import.meta.url)}";
    await new Client({ address: "${stub.address}", token: "t", retries: 0 }).getKey("orders");
  `;
  const environment = { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  const arguments_ = ["--input-type=module", "-e", program];
  const { stderr } = await promisify(execFile)(process.execPath, arguments_, { env: environment }).catch((error) => error);
  assert.match(stderr, /UntrustedCertificateError/);
  assert.equal(stub.requests.length, 0);
});

test("a gateway with TLS", async (t) => {
  const variables = { CLAVIGER_SERVER__TLS__CERTIFICATE: certificate.file, CLAVIGER_SERVER__TLS__KEY: certificate.keyFile };
  const gateway = await Gateway.start(t, variables);
  const client = (scheme: string, ca?: string) => gateway.client({ address: `${scheme}://${gateway.address}`, ca, retries: 0 });
  assert.ok((await client("https", certificate.file).whoAmI()).operator);
  await isUntrusted(client("https").whoAmI(), /self-signed/);
  await assert.rejects(client("http").whoAmI(), (error: TransportError) => error instanceof TransportError && error.whatToDo !== undefined);
});
