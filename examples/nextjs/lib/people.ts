// The application knows its users; Rollcall knows their IDs. These are the users of Rollcall's demo data.

export interface Person {
  id: string;
  name: string;
}

export const people: readonly Person[] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"].map((name, index) => ({
  id: `a0000000-0000-4000-8000-${String(index + 1).padStart(12, "0")}`,
  name,
}));

export const nameOf = (id: string): string => people.find((person) => person.id === id)?.name ?? "Unknown user";
