/** Prints what failed, and the line that tests/run counts. */

import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let [passed, failed] = [0, 0];
  for await (const { type, data } of source) {
    if (type === "test:stdout" || type === "test:stderr") {
      yield data.message;
    } else if ((type === "test:pass" || type === "test:fail") && data.details.type !== "suite") {
      // No test passes by skipping.
      if (type === "test:pass" && data.skip === undefined && data.todo === undefined) {
        passed += 1;
      } else {
        failed += 1;
        const error: unknown = type === "test:fail" ? (data.details.error.cause ?? data.details.error) : "it was skipped";
        yield `FAILED ${data.file ?? ""}: ${data.name}\n${inspect(error)}\n`;
      }
    }
  }
  yield `${passed} passed, ${failed} failed\n`;
}
