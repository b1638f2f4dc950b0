// Encrypts or decrypts a file with the TypeScript client, whose build is in the folder BUILT:
// program.mjs BUILT encrypt|decrypt SOURCE TARGET
const [built, command, source, target] = process.argv.slice(2);
const { Client } = await import(`${built}/src/index.js`);
const { decryptFile, encryptFile } = await import(`${built}/src/files.js`);

const claviger = Client.fromEnv();
const context = { table: "orders" };
if (command === "encrypt") {
  await encryptFile(claviger, "orders", source, target, { context });
} else {
  await decryptFile(claviger, source, target, { context });
}
