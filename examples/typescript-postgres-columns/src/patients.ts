import type { Client } from "@claviger/client";
import { randomUUID } from "node:crypto";

import type { Database } from "./database.js";
import { decrypt, encrypt } from "./encryption.js";

const KEY = "patients";
const TABLE = `
  create table if not exists patients (
    id        uuid  primary key,
    wrapped   text  not null,  -- the row's data key
    name      bytea not null,  -- encrypted with it
    diagnosis bytea not null   -- encrypted with it
  )`;

export interface Patient {
  name: string;
  diagnosis: string;
}

/** A row of the table as it was read: a patient, or why the row does not open. */
export type Entry = { id: string } & ({ patient: Patient } | { unreadable: string });

interface Row {
  id: string;
  wrapped: string;
  name: Uint8Array;
  diagnosis: Uint8Array;
}

/** Binds a data key to its row, so that it opens no other one. */
const contextOf = (id: string) => ({ table: "patients", id });

/** The table `patients`: a data key for each row, which encrypts the row's columns. */
export class Patients {
  private constructor(
    private readonly claviger: Client,
    private readonly database: Database,
  ) {}

  static async open(claviger: Client, database: Database): Promise<Patients> {
    await database.query(TABLE);
    return new Patients(claviger, database);
  }

  /** Inserts all patients, or none. */
  async insert(patients: Patient[]): Promise<void> {
    const ids = patients.map(() => randomUUID());
    const dataKeys = await this.claviger.batchGenerateDataKeys(ids.map((id) => ({ key: KEY, context: contextOf(id) })));
    const rows = patients.map((patient, i): Row => {
      const dataKey = dataKeys[i]!;
      if (dataKey.error) {
        throw dataKey.error;
      }
      const plaintext = dataKey.plaintext!;
      try {
        const name = encrypt(plaintext, "name", patient.name);
        const diagnosis = encrypt(plaintext, "diagnosis", patient.diagnosis);
        return { id: ids[i]!, wrapped: dataKey.wrapped, name, diagnosis };
      } finally {
        plaintext.expose().fill(0);
      }
    });
    await this.database.query("insert into patients select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[])", [
      rows.map((row) => row.id),
      rows.map((row) => row.wrapped),
      rows.map((row) => row.name),
      rows.map((row) => row.diagnosis),
    ]);
  }

  /** Reads all rows with one request for 1,000 data keys. A row that does not open is an entry that says why. */
  async list(): Promise<Entry[]> {
    const rows = await this.database.query<Row>("select id, wrapped, name, diagnosis from patients");
    const dataKeys = await this.claviger.batchUnwrap(rows.map(({ id, wrapped }) => ({ key: KEY, wrapped, context: contextOf(id) })));
    return rows.map((row, i): Entry => {
      const dataKey = dataKeys[i]!;
      if (dataKey.error) {
        return { id: row.id, unreadable: dataKey.error.code };
      }
      try {
        const name = decrypt(dataKey.plaintext, "name", row.name);
        const diagnosis = decrypt(dataKey.plaintext, "diagnosis", row.diagnosis);
        return { id: row.id, patient: { name, diagnosis } };
      } catch {
        return { id: row.id, unreadable: "its content was changed" };
      } finally {
        dataKey.plaintext.expose().fill(0);
      }
    });
  }
}
