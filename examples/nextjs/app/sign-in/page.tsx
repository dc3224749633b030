import { people } from "../../lib/people";
import { enter } from "../actions";

export default function SignIn() {
  return (
    <main>
      <h1>Sign in</h1>
      <p>This is a demonstration: select any user.</p>
      <form action={enter} className="people">
        {people.map(({ id, name }) => (
          <button key={id} name="user" value={id}>
            {name}
          </button>
        ))}
      </form>
    </main>
  );
}
