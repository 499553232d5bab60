//! A run's tokens over its messages, so that they are counted once: the shares add up to the whole.

use serde_json::{Map, Value};

/// Splits the usage object `whole` in as many as there are `parts`: what the steps of each message
/// used where all of that is known, else evenly.
pub(super) fn spread(whole: &Value, parts: &[Option<Value>]) -> Vec<Value> {
    let count = parts.len();
    if count <= 1 {
        return parts.iter().map(|_| whole.clone()).collect();
    }
    exact(whole, parts).unwrap_or_else(|| (0..count).map(|at| even(whole, at, count)).collect())
}

/// The parts as they are known; the last takes what is left.
fn exact(whole: &Value, parts: &[Option<Value>]) -> Option<Vec<Value>> {
    let mut shares: Vec<Value> = parts.iter().cloned().collect::<Option<_>>()?;
    let mut rest = whole.clone();
    shares.pop();
    for share in &shares {
        rest = less(&rest, share)?;
    }
    shares.push(rest);
    Some(shares)
}

/// `whole - part`; `None` when the part is larger.
fn less(whole: &Value, part: &Value) -> Option<Value> {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            let rest = whole.iter().map(|(key, value)| {
                Some((key.clone(), less(value, part.get(key).unwrap_or(&Value::Null))?))
            });
            rest.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        _ => match (whole.as_u64(), part.as_u64()) {
            (Some(whole), Some(part)) => whole.checked_sub(part).map(Value::from),
            _ => Some(whole.clone()),
        },
    }
}

/// `one + other`, member by member.
pub(super) fn sum(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut all = one.clone();
            for (key, value) in other {
                let old = all.get(key).cloned().unwrap_or_default();
                all.insert(key.clone(), sum(&old, value));
            }
            Value::Object(all)
        }
        (one, other) => match (one.as_u64(), other.as_u64()) {
            (Some(one), Some(other)) => one.saturating_add(other).into(),
            _ if one.is_null() => other.clone(),
            _ => one.clone(),
        },
    }
}

/// Every number divided by `count`, the remainder to the first: so a part of a number never exceeds it.
fn even(whole: &Value, at: usize, count: usize) -> Value {
    let Value::Object(members) = whole else {
        let (Some(number), Ok(at), Ok(count)) =
            (whole.as_u64(), u64::try_from(at), u64::try_from(count))
        else {
            return whole.clone();
        };
        return (number / count + u64::from(at < number % count)).into();
    };
    let mut share: Map<String, Value> =
        members.iter().map(|(key, value)| (key.clone(), even(value, at, count))).collect();
    let add_up = |usage: &Map<String, Value>| {
        let tokens = |key: &str| usage.get(key).and_then(Value::as_u64);
        tokens("prompt_tokens")?.checked_add(tokens("completion_tokens")?)
    };
    let total = members.get("total_tokens").and_then(Value::as_u64);
    if let (Some(sum), true) = (add_up(&share), total.is_some() && add_up(members) == total) {
        share.insert("total_tokens".to_owned(), sum.into());
    }
    Value::Object(share)
}

/// Whether a usage object counts nothing.
pub(super) fn is_empty(usage: &Value) -> bool {
    let none = |key: &str| usage[key].as_u64().is_none_or(|tokens| tokens == 0);
    none("prompt_tokens") && none("completion_tokens") && none("total_tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn usage(prompt: u64, cached: u64, completion: u64) -> Value {
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_token_details": {"cached_tokens": cached}})
    }

    #[test]
    fn one_message_takes_it_as_it_came() {
        let odd = json!({"prompt_tokens": 1.5, "x": "y"});
        assert_eq!(spread(&odd, &[None]), std::slice::from_ref(&odd));
        assert_eq!(spread(&odd, &[]), [] as [Value; 0]);
    }

    #[test]
    fn known_parts_stand_and_the_last_takes_the_rest() {
        let parts = [Some(usage(10, 0, 3)), Some(usage(1, 1, 1))];
        let shares = spread(&usage(30, 8, 7), &parts);
        assert_eq!(shares, [usage(10, 0, 3), usage(20, 8, 4)]);
        let too_large = [Some(usage(40, 0, 3)), Some(usage(1, 1, 1))];
        assert_eq!(spread(&usage(30, 8, 7), &too_large)[1], usage(15, 4, 3));
    }

    proptest! {
        #[test]
        fn shares_add_up_and_each_is_sound(prompt in 0_u64..1 << 40, cached in 0_u64..1 << 40, completion in 0_u64..1 << 40, count in 1_usize..20) {
            let whole = usage(prompt, cached.min(prompt), completion);
            let shares = spread(&whole, &vec![None; count]);
            let all = shares.iter().fold(Value::Null, |all, share| sum(&all, share));
            prop_assert_eq!(all, whole);
            for share in shares {
                let tokens = |key: &str| share[key].as_u64().unwrap();
                prop_assert_eq!(tokens("prompt_tokens") + tokens("completion_tokens"), tokens("total_tokens"));
                prop_assert!(share["prompt_token_details"]["cached_tokens"].as_u64() <= share["prompt_tokens"].as_u64());
            }
        }
    }
}
