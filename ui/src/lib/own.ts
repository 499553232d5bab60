/** What a table itself has under a name that came from outside: never what every object inherits. */
export const own = <T>(table: Record<string, T>, name: string): T | undefined => (Object.hasOwn(table, name) ? table[name] : undefined);
