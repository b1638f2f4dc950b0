import { PGlite } from "@electric-sql/pglite";
import pg from "pg";

/** What the program needs of PostgreSQL. */
export interface Database {
  query<Row extends object>(sql: string, values?: unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

/** The server that DATABASE_URL names, or else PGlite: PostgreSQL inside this process, with its data in the folder `database`. */
export async function openDatabase(): Promise<Database> {
  const url = process.env["DATABASE_URL"];
  if (url) {
    const server = new pg.Pool({ connectionString: url });
    return {
      query: async <Row extends object>(sql: string, values?: unknown[]) => (await server.query<Row>(sql, values)).rows,
      close: () => server.end(),
    };
  }
  const local = await PGlite.create("database");
  return {
    query: async <Row extends object>(sql: string, values?: unknown[]) => (await local.query<Row>(sql, values)).rows,
    close: () => local.close(),
  };
}
