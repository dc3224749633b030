// The database, spoken to as the caller: that role, those claims, in a transaction of its own.

import postgres from "postgres";
import type { Caller } from "./auth.ts";

/** Statements of one caller. */
export type Transaction = postgres.TransactionSql;

export class Database {
  readonly #sql: postgres.Sql;

  constructor(url: string) {
    this.#sql = postgres(url, {
      // A pooler in transaction mode may stand between.
      prepare: false,
      max: 4,
      idle_timeout: 20,
      connect_timeout: 5,
      onnotice: () => {},
      connection: { application_name: "presence-manager" },
    });
  }

  /** Runs statements as the caller; all of them count, or none. */
  async as<T>(caller: Caller, work: (sql: Transaction) => Promise<T>): Promise<T> {
    return await this.#sql.begin(async (sql) => {
      await sql`select set_config('search_path', rollcall.role_search_path(${caller.role}), true),
        set_config('role', ${caller.role}, true), set_config('request.jwt.claims', ${caller.claims}, true),
        set_config('statement_timeout', '5000', true)`;
      return await work(sql);
    }) as T;
  }
}
