/**
 * Patients in PostgreSQL, whose columns are encrypted.
 *
 * node dist/main.js add     stores patients from the input: {"name": "Ada", "diagnosis": "flu"} in each line
 * node dist/main.js list    prints them all
 */

import { ClavigerError, Client } from "@claviger/client";
import { text } from "node:stream/consumers";

import { openDatabase } from "./database.js";
import { type Patient, Patients } from "./patients.js";

/** Carries a command out, and returns the exit code. */
async function run(command: string | undefined): Promise<number> {
  const database = await openDatabase();
  try {
    const patients = await Patients.open(Client.fromEnv(), database);
    switch (command) {
      case "add":
        await patients.insert((await text(process.stdin)).split("\n").filter(Boolean).map(patientOf));
        return 0;
      case "list": {
        const entries = await patients.list();
        for (const entry of entries) {
          if ("patient" in entry) {
            console.log(`${entry.patient.name}: ${entry.patient.diagnosis}`);
          } else {
            console.log(`row ${entry.id} does not open: ${entry.unreadable}`);
          }
        }
        return entries.every((entry) => "patient" in entry) ? 0 : 1;
      }
    }
    console.error("patients: the commands are add and list");
    return 2;
  } finally {
    await database.close();
  }
}

function patientOf(line: string, index: number): Patient {
  try {
    const { name, diagnosis } = JSON.parse(line);
    if (typeof name === "string" && typeof diagnosis === "string") {
      return { name, diagnosis };
    }
  } catch {
    // The parser's own message has a part of the line.
  }
  throw new Error(`line ${index + 1} is no patient: {"name": TEXT, "diagnosis": TEXT}`);
}

try {
  process.exitCode = await run(process.argv[2]);
} catch (error) {
  console.error(`patients: ${error instanceof Error ? error.message : error}`);
  if (error instanceof ClavigerError && error.whatToDo) {
    console.error(error.whatToDo);
  }
  process.exitCode = 2;
}
