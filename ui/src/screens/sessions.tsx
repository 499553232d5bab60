export function Sessions(_: any) { return <main class="page"><h1>Sessions</h1></main>; }
