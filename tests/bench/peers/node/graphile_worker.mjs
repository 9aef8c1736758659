// graphile-worker with the settings of its own performance page: local queue of 500, completions batched.
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { JOBS, main, URL } from "./protocol.mjs";

const PROFILES = {
  drain: { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 } },
  pickup: { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500 } },
  // One at a time in each of two processes; a local queue would keep jobs from the other one.
  cpu: { concurrentJobs: 1, maxPoolSize: 4 },
};
const logger = new Logger(() => () => {});

const tasks = Object.fromEntries(
  Object.entries(JOBS).map(([kind, job]) => [kind, async (payload) => job(payload.number)]),
);
let utils;

await main({
  async setup() {
    await runMigrations({ connectionString: URL, logger });
  },
  async open() {
    utils = await makeWorkerUtils({ connectionString: URL, logger });
  },
  async insert(kind, numbers) {
    await utils.addJobs(numbers.map((number) => ({ identifier: kind, payload: { number } })));
  },
  async submit(kind, number) {
    await utils.addJob(kind, { number });
  },
  async work(profile) {
    const runner = await run({
      taskList: tasks,
      preset: { worker: { connectionString: URL, ...PROFILES[profile], completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
      logger,
      noHandleSignals: true,
    });
    return () => runner.stop();
  },
});
