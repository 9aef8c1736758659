// pg-boss with LISTEN/NOTIFY, batches, fetching on while batches are full, and the queue in a table of its own.
import { PgBoss } from "pg-boss";
import { JOBS, main, URL } from "./protocol.mjs";

const PROFILES = {
  drain: { batchSize: 1000, burstWhenBatchFull: true, localConcurrency: 2 },
  pickup: { batchSize: 100, burstWhenBatchFull: true },
  // With batches of one it would wait for a poll after each job.
  cpu: { batchSize: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 },
};

let boss;

async function start(options = {}) {
  boss = new PgBoss({ connectionString: URL, useListenNotify: true, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
}

await main({
  async setup() {
    await start();
    for (const kind of Object.keys(JOBS)) await boss.createQueue(kind, { notify: true, partition: true });
    await boss.stop({ graceful: false });
  },
  async open() {
    await start({ supervise: false, schedule: false, useListenNotify: false });
  },
  async insert(kind, numbers) {
    await boss.insert(kind, numbers.map((number) => ({ data: { number } })));
  },
  async submit(kind, number) {
    await boss.send(kind, { number });
  },
  async work(profile) {
    await start();
    for (const [kind, job] of Object.entries(JOBS)) {
      await boss.work(kind, PROFILES[profile], async (jobs) => {
        for (const { data } of jobs) job(data.number);
      });
    }
    return () => boss.stop({ graceful: true, timeout: 10_000 });
  },
});
