// An application knows its users; Rollcall knows ids. These are the people of Rollcall's demo data.

export interface Person {
  id: string;
  name: string;
}

export const people: readonly Person[] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"].map((name, place) => ({
  id: `a0000000-0000-4000-8000-${String(place + 1).padStart(12, "0")}`,
  name,
}));

export const nameOf = (id: string): string => people.find((person) => person.id === id)?.name ?? "Somebody";
