/** A certificate for 127.0.0.1 that no authority signed. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { type Scope, temporaryFolder } from "./folders.js";

export interface Certificate {
  readonly file: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export async function makeCertificate(test: Scope): Promise<Certificate> {
  const folder = await temporaryFolder(test);
  const [file, keyFile] = [path.join(folder, "tls.crt"), path.join(folder, "tls.key")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"];
  const names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
  execFileSync("openssl", ["req", ...kind, ...names, "-keyout", keyFile, "-out", file], { stdio: "ignore" });
  return { file, keyFile, cert: readFileSync(file), key: readFileSync(keyFile) };
}
