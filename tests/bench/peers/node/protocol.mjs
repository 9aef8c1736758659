// How a benchmarked queue's program talks to the harness: see ../python/protocol.py, which this repeats for Node.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";

export const URL = process.env.BENCH_URL;

/** Rounds of the cpu job's loop: about 20 ms. */
const SPIN = 20_000_000;

const now = () => Number(process.hrtime.bigint());
const say = (message) => fs.writeSync(1, JSON.stringify(message) + "\n");

let calls = 0;
let total = 0;
let pipe;

function noop(number) {
  calls += 1;
  total += number;
}

function stamp(number) {
  pipe ??= fs.openSync(process.env.BENCH_PIPE, "a");
  fs.writeSync(pipe, `${number} ${process.hrtime.bigint()}\n`);
}

function cpu(number) {
  let value = number;
  for (let round = 0; round < SPIN; round += 1) value = (Math.imul(value, 1103515245) + 12345) & 0x7fffffff;
  noop(number + (value < 0 ? 1 : 0));
}

export const JOBS = { noop, stamp, cpu };

/**
 * Do what the command line says.
 *
 * @param peer setup(), open(), insert(kind, numbers), submit(kind, number), and work(profile), which resolves to a
 *   function that stops the worker.
 */
export async function main(peer) {
  const [mode, argument] = process.argv.slice(2);
  if (mode === "client") {
    let isOpen = false;
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const command = JSON.parse(line);
      if (command.do !== "setup" && !isOpen) {
        await peer.open();
        isOpen = true;
      }
      const began = now();
      if (command.do === "setup") await peer.setup();
      else if (command.do === "insert") {
        const numbers = Array.from({ length: command.count }, (_, index) => command.first + index);
        await peer.insert(command.kind, numbers);
      } else await peer.submit(command.kind, command.first);
      say({ began, ended: now() });
    }
  } else if (mode === "worker") {
    const stop = await peer.work(argument);
    const end = async () => {
      await stop();
      fs.appendFileSync(path.join(process.env.BENCH_TALLY, String(process.pid)), `${calls} ${total}\n`);
      process.exit(0);
    };
    process.once("SIGTERM", end);
    process.once("SIGINT", end);
    say({ ready: true });
    return;
  } else if (mode === "bare") {
    cpu(0);
    const began = now();
    for (let number = 0; number < Number(argument); number += 1) cpu(number);
    say({ began, ended: now() });
  }
  process.exit(0);
}
