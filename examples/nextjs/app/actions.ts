"use server";

import { redirect } from "next/navigation";

import { signIn, signOut } from "../lib/session";

export async function enter(form: FormData): Promise<void> {
  await signIn(String(form.get("user")));
  redirect("/");
}

export async function leave(): Promise<void> {
  await signOut();
  redirect("/sign-in");
}
