import { people } from "../../lib/people";
import { enter } from "../actions";

export default function SignIn() {
  return (
    <main>
      <h1>Who are you?</h1>
      <p>A demonstration: anybody may be anybody.</p>
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
