/** What a test passes to the page of a framework. */
export interface Settings {
  url: string;
  token: string;
  anonKey: string;
  conversation: string;
  other: string;
  topic: string;
  name: string;
}
