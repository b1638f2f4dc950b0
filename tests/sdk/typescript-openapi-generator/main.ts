// What an application does with Claviger, by the client that openapi-generator makes for TypeScript.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { AccessApi, BatchApi, Configuration, DataKeysApi, KeysApi, ResponseError } from './api/index.js';
import type { BatchUnwrapResult, Problem } from './api/index.js';

const ATTEMPTS = 4;

function setting(name: string): string {
    const value = process.env[name];
    if (value === undefined) throw new Error(`${name} is not set`);
    return value;
}

/** The parts of a client for the gateway at an address such as https://gateway.example:8420. */
function connect(address: string) {
    const configuration = new Configuration({
        basePath: address,
        accessToken: readFileSync(setting('CLAVIGER_TOKEN_FILE'), 'utf8').trim(),
        headers: { 'Claviger-Tenant': setting('CLAVIGER_TENANT') },
    });
    return {
        access: new AccessApi(configuration),
        batch: new BatchApi(configuration),
        dataKeys: new DataKeysApi(configuration),
        keys: new KeysApi(configuration),
    };
}

/** What the gateway refused a call with; undefined if the call failed in another way. */
async function problemOf(error: unknown): Promise<Problem | undefined> {
    if (!(error instanceof ResponseError) || error.response.headers.get('Content-Type') !== 'application/problem+json') return undefined;
    return await error.response.clone().json();
}

/** Repeats a call as long as the gateway says that the same request may succeed later. */
async function retrying<T>(call: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
        try {
            return await call();
        } catch (error) {
            if (attempt === ATTEMPTS || !(await problemOf(error))?.retryable) throw error;
            const seconds = Number((error as ResponseError).response.headers.get('Retry-After') ?? 1);
            await sleep(1000 * seconds);
        }
    }
}

/** The code of the problem that a call ends in; undefined if it succeeds. */
async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
    try {
        await call;
    } catch (error) {
        return (await problemOf(error))?.code ?? String(error);
    }
    return undefined;
}

/** A batch's two items: a result and an error. */
function results(batch: BatchUnwrapResult) {
    const [good, bad] = batch.items;
    if (!good || good.error || !bad?.error) throw new Error('not a result and an error');
    return { good, error: bad.error };
}

function done(step: string, holds: boolean) {
    if (!holds) throw new Error(`${step}: not what was expected`);
    console.log('ok', step);
}

const { access, batch, dataKeys, keys } = connect(setting('CLAVIGER_ADDRESS'));
done('connect', (await access.whoAmI()).operator);

// A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
const idempotencyKey = randomUUID();
const key = await retrying(() => keys.createKey({ createKey: { name: 'invoices', connection: 'embedded' }, idempotencyKey }));
done('key', key.state === 'enabled');

const context = { table: 'invoices' };
const made = await retrying(() => dataKeys.generateDataKey({ key: 'invoices', generateDataKeyRequest: { context } }));
done('data-key', Buffer.from(made.plaintext ?? '', 'base64').length === 32);

const unwrapRequest = { wrapped: made.wrapped, context };
const opened = await retrying(() => dataKeys.unwrap({ unwrapRequest }));
done('unwrap', opened.plaintext === made.plaintext);

const other = { wrapped: made.wrapped, context: { table: 'orders' } };
done('context', (await codeOf(dataKeys.unwrap({ unwrapRequest: other }))) === 'ciphertext_rejected');

const batchUnwrapRequest = { items: [unwrapRequest, { wrapped: made.wrapped }] };
const { good, error } = results(await retrying(() => batch.batchUnwrap({ batchUnwrapRequest })));
done('batch', good.plaintext === made.plaintext && error.code === 'ciphertext_rejected');

const names: string[] = [];
let pageToken: string | undefined;
do {
    const page = await retrying(() => keys.listKeys({ pageSize: 2, pageToken }));
    names.push(...page.items.map((key) => key.name));
    pageToken = page.nextPageToken;
} while (pageToken !== undefined);
done('paging', names.join() === 'first,fourth,invoices,second,third');

done('rotate', (await retrying(() => keys.rotateKey({ key: 'invoices' }))).primaryVersion === 2);

await retrying(() => keys.disableKey({ key: 'invoices' }));
done('disable', (await codeOf(dataKeys.unwrap({ unwrapRequest }))) === 'key_disabled');

// Without a body above, with an empty one here.
const enabled = await retrying(() => keys.enableKey({ key: 'invoices', setKeyState: {} }));
const disabled = await retrying(() => keys.disableKey({ key: 'invoices', setKeyState: {} }));
done('no-body', enabled.state === 'enabled' && disabled.state === 'disabled');

// A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
const stub = connect(setting('CLAVIGER_STUB_ADDRESS'));
done('retry', (await retrying(() => stub.dataKeys.unwrap({ unwrapRequest: { wrapped: 'clv1.busy' } }))).version === 1);

const later = await stub.keys.getKey({ key: 'later' });
const answered = results(await stub.batch.batchUnwrap({ batchUnwrapRequest }));
const codes = [answered.error.code, await codeOf(retrying(() => stub.keys.getKey({ key: 'refused' })))];
done('unknown', later.name === 'later' && answered.good.key === 'later' && codes.every((code) => code === 'refused_by_a_later_release'));
done('word', (await stub.keys.getKey({ key: 'quarantined' })).state === 'quarantined');
