// Uses QuickDapp's tables as QuickDapp's own server does: the same client libraries, the same shapes, the same statements
// in the same transactions. Reads calls as lines of JSON from standard input and answers each with a line.
//
// After QuickDapp/QuickDapp 3.17.0, packages/variant-web3/src/server/db: schema.ts, worker.ts, shared.ts, users.ts,
// settings.ts, notifications.ts.

const readline = require("node:readline")
const { and, asc, count, desc, eq, isNotNull, isNull, lte, notInArray, or } = require("drizzle-orm")
const { boolean, integer, json, pgTable, serial, text, timestamp } = require("drizzle-orm/pg-core")
const { drizzle } = require("drizzle-orm/postgres-js")
const postgres = require("postgres")

const MINUTE = 60_000
const CANCELLED = { error: "Job cancelled due to new job being created" }

const moment = (name) => timestamp(name, { withTimezone: true })
const dates = () => ({
  createdAt: moment("created_at").defaultNow().notNull(),
  updatedAt: moment("updated_at").defaultNow().notNull(),
})

const jobs = pgTable("worker_jobs", {
  id: serial("id").primaryKey(),
  tag: text("tag").notNull(),
  type: text("type").notNull(),
  userId: integer("user_id").notNull(),
  data: json("data").notNull(),
  due: moment("due").notNull(),
  started: moment("started"),
  finished: moment("finished"),
  removeAt: moment("remove_at").notNull(),
  success: boolean("success"),
  result: json("result"),
  cronSchedule: text("cron_schedule"),
  autoRescheduleOnFailure: boolean("auto_reschedule_on_failure").default(false).notNull(),
  autoRescheduleOnFailureDelay: integer("auto_reschedule_on_failure_delay").default(0).notNull(),
  removeDelay: integer("remove_delay").default(0).notNull(),
  rescheduledFromJob: integer("rescheduled_from_job"),
  persistent: boolean("persistent").default(false).notNull(),
  ...dates(),
})
const users = pgTable("users", {
  id: serial("id").primaryKey(),
  disabled: boolean("disabled").default(false).notNull(),
  settings: json("settings"),
  ...dates(),
})
const userAuth = pgTable("user_auth", {
  id: serial("id").primaryKey(),
  userId: integer("user_id").references(() => users.id, { onDelete: "cascade" }).notNull(),
  authType: text("auth_type").notNull(),
  authIdentifier: text("auth_identifier").unique().notNull(),
  ...dates(),
})
const notifications = pgTable("notifications", {
  id: serial("id").primaryKey(),
  userId: integer("user_id").references(() => users.id).notNull(),
  data: json("data").notNull(),
  read: boolean("read").default(false).notNull(),
  ...dates(),
})
const settings = pgTable("settings", {
  id: serial("id").primaryKey(),
  key: text("key").unique().notNull(),
  value: text("value").notNull(),
  ...dates(),
})

const statements = []
const client = postgres(process.env.DATABASE_URL, { max: 4, onnotice: () => {} })
const db = drizzle(client, { logger: { logQuery: (query) => statements.push(query) } })

// Every writing transaction is serializable there, and tried again where Postgres finds a conflict.
async function transaction(work) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction(work, { isolationLevel: "serializable" })
    } catch (error) {
      const code = error.code ?? error.cause?.code
      if (attempt === 7 || (code !== "40001" && code !== "40P01")) throw error
      await new Promise((resolve) => setTimeout(resolve, 50 * 2 ** attempt * (1 + Math.random() / 2)))
    }
  }
}

const isPending = () =>
  and(isNull(jobs.finished), or(isNull(jobs.started), lte(jobs.started, new Date(Date.now() - 30 * MINUTE))))

async function cancelPending(tx, tag) {
  const now = new Date()
  await tx
    .update(jobs)
    .set({ started: now, finished: now, success: false, result: CANCELLED, updatedAt: now })
    .where(and(isPending(), eq(jobs.tag, tag)))
}

async function insert(tx, { due, removeDelay, ...job }) {
  const moment = due ? new Date(due) : new Date()
  const [row] = await tx
    .insert(jobs)
    .values({ ...job, removeDelay, due: moment, removeAt: new Date(moment.getTime() + (removeDelay || 60 * MINUTE)) })
    .returning()
  return row
}

const update = async (id, values) =>
  (await db.update(jobs).set({ ...values, updatedAt: new Date() }).where(eq(jobs.id, id)).returning())[0]

const calls = {
  // What scheduleJob and scheduleCronJob do; several jobs go one after the other into one transaction.
  schedule: ({ jobs: wanted }) =>
    transaction(async (tx) => {
      const rows = []
      for (const { data, autoRescheduleOnFailure, autoRescheduleOnFailureDelay, persistent, ...job } of wanted) {
        await cancelPending(tx, job.tag)
        rows.push(
          await insert(tx, {
            ...job,
            data: data || {},
            autoRescheduleOnFailure: !!autoRescheduleOnFailure,
            autoRescheduleOnFailureDelay: autoRescheduleOnFailureDelay || 0,
            persistent: !!persistent,
          }),
        )
      }
      return rows
    }),
  cancel: ({ tag }) => transaction((tx) => cancelPending(tx, tag)),
  countPending: async () => (await db.select({ count: jobs.id }).from(jobs).where(isPending())).length,
  nextPending: async () =>
    (await db.select().from(jobs).where(isPending()).orderBy(asc(jobs.due)).limit(1))[0] ?? null,
  job: async ({ id }) => (await db.select().from(jobs).where(eq(jobs.id, id)).limit(1))[0] ?? null,
  finishedOf: ({ type, userId }) =>
    db
      .select()
      .from(jobs)
      .where(and(eq(jobs.type, type), eq(jobs.userId, userId), isNotNull(jobs.finished)))
      .orderBy(desc(jobs.createdAt)),
  markStarted: ({ id }) => update(id, { started: new Date() }),
  markSucceeded: ({ id, result }) => update(id, { finished: new Date(), success: true, result }),
  markFailed: ({ id, result }) => update(id, { finished: new Date(), success: false, result }),
  // What rescheduleFailedJob and rescheduleCronJob do, with the moment given.
  reschedule: ({ id, due }) =>
    transaction(async (tx) => {
      const [job] = await tx.select().from(jobs).where(eq(jobs.id, id))
      await cancelPending(tx, job.tag)
      const { id: _, started, finished, success, result, createdAt, updatedAt, removeAt, ...copied } = job
      return insert(tx, { ...copied, due, rescheduledFromJob: job.id })
    }),
  removeOld: async ({ exclude }) => {
    const conditions = [
      lte(jobs.removeAt, new Date()),
      isNotNull(jobs.started),
      isNotNull(jobs.finished),
      eq(jobs.persistent, false),
    ]
    if (exclude.length > 0) conditions.push(notInArray(jobs.id, exclude))
    await db.delete(jobs).where(and(...conditions))
  },
  removeType: ({ type }) => db.delete(jobs).where(eq(jobs.type, type)).returning(),
  insertRow: async ({ row }) => (await db.insert(jobs).values(withDates(row)).returning())[0],

  createUser: async ({ wallet }) => {
    const [user] = await db.insert(users).values({ settings: { theme: "dark" } }).returning()
    await db.insert(userAuth).values({ userId: user.id, authType: "WEB3_WALLET", authIdentifier: wallet })
    return user
  },
  userOfWallet: async ({ wallet }) =>
    (
      await db
        .select({ user: users })
        .from(userAuth)
        .innerJoin(users, eq(userAuth.userId, users.id))
        .where(eq(userAuth.authIdentifier, wallet))
        .limit(1)
    )[0]?.user ?? null,
  notify: async ({ userId, data }) => (await db.insert(notifications).values({ userId, data, read: false }).returning())[0],
  notificationsOf: ({ userId }) =>
    transaction(async (tx) => [
      await tx
        .select()
        .from(notifications)
        .where(eq(notifications.userId, userId))
        .orderBy(desc(notifications.createdAt))
        .limit(10)
        .offset(0),
      (await tx.select({ count: count() }).from(notifications).where(eq(notifications.userId, userId)))[0].count,
    ]),
  setSetting: ({ key, value }) =>
    transaction(async (tx) => {
      const found = await tx.select().from(settings).where(eq(settings.key, key)).limit(1)
      if (found.length > 0) await tx.update(settings).set({ value, updatedAt: new Date() }).where(eq(settings.key, key))
      else await tx.insert(settings).values({ key, value })
    }),
  getSetting: async ({ key }) => (await db.select().from(settings).where(eq(settings.key, key)).limit(1))[0]?.value ?? null,

  // What was sent so far, as the ORM wrote it.
  statements: () => statements,
}

const withDates = (row) =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      value !== null && jobs[name].dataType === "date" ? new Date(value) : value,
    ]),
  )

async function answer(line) {
  const { number, call, values } = JSON.parse(line)
  try {
    return { number, value: (await calls[call](values)) ?? null }
  } catch (error) {
    const cause = error.cause ?? error
    return { number, error: { code: cause.code ?? null, message: cause.message } }
  }
}

const lines = readline.createInterface({ input: process.stdin })
const running = new Set()
lines.on("line", (line) => {
  const work = answer(line).then((reply) => process.stdout.write(`${JSON.stringify(reply)}\n`))
  running.add(work)
  work.finally(() => running.delete(work))
})
lines.on("close", async () => {
  await Promise.all(running)
  await client.end()
})
