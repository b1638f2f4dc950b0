/** A file that takes the place of another one when it is complete. */

import { randomUUID } from "node:crypto";
import { open, readlink, realpath, rename, rm, stat } from "node:fs/promises";
import path from "node:path";

/**
 * Writes the pieces to a temporary file in the target's folder, syncs it, and puts it in the target's place. If anything
 * fails, nothing of it is left, and the target is as before. A new file has mode 0600; an existing one keeps its mode.
 */
export async function replaceFile(target: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const final = await followed(target);
  const existing = await stat(final).catch(ifMissing);
  if (existing !== undefined && !existing.isFile()) {
    throw new TypeError(`${final} is not a regular file, so it cannot be replaced`);
  }
  const temporary = path.join(path.dirname(final), `.claviger-${randomUUID()}.part`);
  const file = await open(temporary, "wx", 0o600);
  try {
    try {
      for await (const piece of pieces) {
        await file.writeFile(piece);
      }
      if (existing !== undefined) {
        await file.chmod(existing.mode & 0o777);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, final);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(path.dirname(final));
}

/** Where a path leads to. A symbolic link stays one, and what it leads to is replaced, also where that is not there yet. */
async function followed(target: string): Promise<string> {
  const found = await realpath(target).catch(ifMissing);
  if (found !== undefined) {
    return found;
  }
  const link = await readlink(target).catch(() => undefined);
  return link === undefined ? path.resolve(target) : followed(path.resolve(path.dirname(target), link));
}

/** Makes the new name durable. The target is replaced already, and some systems sync no folders. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const opened = await open(folder);
    await opened.sync().finally(() => opened.close());
  } catch {
    return;
  }
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") {
    throw error;
  }
}
