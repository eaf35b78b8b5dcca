// Seals or opens one payload with another implementation: JWE with the npm package jose, the binary
// form with Node's own crypto.
//
//   node seal.js seal|open jwe|a256gcm KEYFILE TOPIC < INPUT > OUTPUT
import {readFileSync, writeSync} from 'node:fs';
import {createCipheriv, createDecipheriv, createHash, randomBytes} from 'node:crypto';
import {CompactEncrypt, compactDecrypt, importJWK} from 'jose';

const [what, form, file, topic] = process.argv.slice(2);
const jwk = JSON.parse(readFileSync(file, 'utf8'));
const input = readFileSync(0);

async function jwe() {
  const key = await importJWK(jwk, 'A256GCM');
  if (what === 'seal') {
    const header = {alg: 'dir', enc: 'A256GCM', kid: jwk.kid, cty: 'application/json', topic};
    return Buffer.from(await new CompactEncrypt(input).setProtectedHeader(header).encrypt(key));
  }
  const {plaintext, protectedHeader} = await compactDecrypt(input, key, {
    keyManagementAlgorithms: ['dir'],
    contentEncryptionAlgorithms: ['A256GCM'],
  });
  if (protectedHeader.topic !== topic) throw new Error(`sealed for ${protectedHeader.topic}`);
  return Buffer.from(plaintext);
}

// See the table in the comment of package seal.
function binary() {
  const key = Buffer.from(jwk.k, 'base64url');
  const head = Buffer.concat([Buffer.of(1), createHash('sha256').update(key).digest().subarray(0, 4)]);
  const aad = Buffer.concat([head, Buffer.from(topic)]);
  if (what === 'seal') {
    const nonce = randomBytes(12);
    const c = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
    return Buffer.concat([head, nonce, c.update(input), c.final(), c.getAuthTag()]);
  }
  if (!input.subarray(0, 5).equals(head)) throw new Error('another version or key');
  const end = input.length - 16;
  const d = createDecipheriv('aes-256-gcm', key, input.subarray(5, 17)).setAAD(aad).setAuthTag(input.subarray(end));
  return Buffer.concat([d.update(input.subarray(17, end)), d.final()]);
}

writeSync(1, form === 'jwe' ? await jwe() : binary());
