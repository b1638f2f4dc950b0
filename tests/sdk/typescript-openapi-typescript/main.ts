// What an application does with Claviger, by openapi-fetch and the types that openapi-typescript makes.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

type Problem = components['schemas']['Problem'];

const ATTEMPTS = 4;

class Refused extends Error {
    constructor(readonly problem: Problem) {
        super(`${problem.code}: ${problem.detail}`);
    }
}

function setting(name: string): string {
    const value = process.env[name];
    if (value === undefined) throw new Error(`${name} is not set`);
    return value;
}

/** A client for the gateway at an address such as https://gateway.example:8420. */
function connect(address: string) {
    const token = readFileSync(setting('CLAVIGER_TOKEN_FILE'), 'utf8').trim();
    return createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${token}`, 'Claviger-Tenant': setting('CLAVIGER_TENANT') } });
}

/** The answer to a call; repeats it as long as the gateway says that the same request may succeed later. */
async function send<T>(call: () => Promise<{ data?: T; error?: Problem; response: Response }>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
        const { data, error, response } = await call();
        if (error === undefined) return data as T;
        if (attempt === ATTEMPTS || !error.retryable) throw new Refused(error);
        await sleep(1000 * Number(response.headers.get('Retry-After') ?? 1));
    }
}

/** The code of the problem that a call ends in; undefined if it succeeds. */
async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
    try {
        await call;
    } catch (error) {
        if (error instanceof Refused) return error.problem.code;
        throw error;
    }
    return undefined;
}

/** A batch's two items: a result and an error. */
function results({ items: [good, bad] }: components['schemas']['BatchUnwrapResult']) {
    if (!good || good.error || !bad?.error) throw new Error('not a result and an error');
    return { good, error: bad.error };
}

function done(step: string, holds: boolean) {
    if (!holds) throw new Error(`${step}: not what was expected`);
    console.log('ok', step);
}

const client = connect(setting('CLAVIGER_ADDRESS'));
done('connect', (await send(() => client.GET('/v1/whoami'))).operator);

// A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
const header = { 'Idempotency-Key': randomUUID() };
const key = await send(() => client.POST('/v1/keys', { params: { header }, body: { name: 'invoices', connection: 'embedded' } }));
done('key', key.state === 'enabled');

const path = { key: 'invoices' };
const context = { table: 'invoices' };
const made = await send(() => client.POST('/v1/keys/{key}/data-keys', { params: { path }, body: { context } }));
done('data-key', Buffer.from(made.plaintext ?? '', 'base64').length === 32);

const request = { wrapped: made.wrapped, context };
const opened = await send(() => client.POST('/v1/unwrap', { body: request }));
done('unwrap', opened.plaintext === made.plaintext);

const other = { wrapped: made.wrapped, context: { table: 'orders' } };
done('context', (await codeOf(send(() => client.POST('/v1/unwrap', { body: other })))) === 'ciphertext_rejected');

const items = [request, { wrapped: made.wrapped }];
const { good, error } = results(await send(() => client.POST('/v1/batch/unwrap', { body: { items } })));
done('batch', good.plaintext === made.plaintext && error.code === 'ciphertext_rejected');

const names: string[] = [];
let page_token: string | undefined;
do {
    const query = { page_size: 2, page_token };
    const page: components['schemas']['KeyList'] = await send(() => client.GET('/v1/keys', { params: { query } }));
    names.push(...page.items.map((key) => key.name));
    page_token = page.next_page_token;
} while (page_token !== undefined);
done('paging', names.join() === 'first,fourth,invoices,second,third');

done('rotate', (await send(() => client.POST('/v1/keys/{key}/rotate', { params: { path } }))).primary_version === 2);

await send(() => client.POST('/v1/keys/{key}/disable', { params: { path } }));
done('disable', (await codeOf(send(() => client.POST('/v1/unwrap', { body: request })))) === 'key_disabled');

// Without a body above, with an empty one here.
const enabled = await send(() => client.POST('/v1/keys/{key}/enable', { params: { path }, body: {} }));
const disabled = await send(() => client.POST('/v1/keys/{key}/disable', { params: { path }, body: {} }));
done('no-body', enabled.state === 'enabled' && disabled.state === 'disabled');

// A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
const stub = connect(setting('CLAVIGER_STUB_ADDRESS'));
done('retry', (await send(() => stub.POST('/v1/unwrap', { body: { wrapped: 'clv1.busy' } }))).version === 1);

const later = await send(() => stub.GET('/v1/keys/{key}', { params: { path: { key: 'later' } } }));
const answered = results(await send(() => stub.POST('/v1/batch/unwrap', { body: { items } })));
const refused = await codeOf(send(() => stub.GET('/v1/keys/{key}', { params: { path: { key: 'refused' } } })));
done('unknown', later.name === 'later' && answered.good.key === 'later' && [answered.error.code, refused].every((code) => code === 'refused_by_a_later_release'));
done('word', (await send(() => stub.GET('/v1/keys/{key}', { params: { path: { key: 'quarantined' } } }))).state === 'quarantined');
